// Package storage simulates what Proxmox does with storages: storage.cfg and pvesm, the servers that export them (NFS, CIFS,
// iSCSI, backup servers) and what happens when they go away or hang, replication and its scheduler, backup jobs and vzdump,
// and the options of the datacenter. World holds the servers and nodes.
//
// Configs are files of /etc/pve. Only what is no file on a node lives here: what the servers hold, which ZFS pools and volume
// groups there are, and which volumes were copied where.
package storage
