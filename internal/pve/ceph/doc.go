// Package ceph is what pxrun knows of Ceph on Proxmox VE: what a node says of its disks, packages and daemons, what the
// monitors say of the cluster, and pure reasoning on both: whether all is clean, what a disk carries, what may be taken away.
// The main types are Node, read from every node, and Cluster, read from one node with a monitor; each takes one round
// trip. Output of Ceph is decoded leniently: releases add keys.
package ceph
