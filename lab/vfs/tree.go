package vfs

// Tree is a machine's whole file system: mounted trees under one root.
type Tree struct{}
