package ceph

func (n *Node) addPaths() {}
