// Package storage is what Proxmox VE's storages, replication and backup jobs are: typed reads of their files, and decisions
// about them on values. It runs nothing but reads.
package storage
