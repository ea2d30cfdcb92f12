// Package ceph simulates Ceph on the nodes of a Proxmox cluster: its packages, pveceph, the ceph command, monitors with
// their quorum, managers, OSDs on disks of package disk, pools with placement groups, file systems, flags and health.
// Model is the main type.
//
// A Ceph cluster is known by the fsid in ceph.conf; its daemons run as units of the machines and end with their power.
// Nothing ticks: what time brings about (a monitor that is missed, an OSD that is marked down or out, copying) is worked
// out when somebody asks, in the order in which it would have happened.
package ceph
