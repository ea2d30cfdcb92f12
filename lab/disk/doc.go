// Package disk is what a simulated machine knows of its block devices: disks with their serial numbers and links in
// /dev/disk/by-id, what lies on them (partitions, file systems, LVM, ZFS, Ceph), and the programs that show and change it:
// lsblk, blkid, wipefs, sgdisk, smartctl, LVM's, and pvesh's paths of disks. Disks is the main type.
//
// Contents are a model: no byte is stored. What is written to a device wipes it.
package disk
