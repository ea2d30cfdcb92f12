// Package guest is what Proxmox VE's virtual machines and containers are to somebody who wants to move them: what their
// configs, the HA manager, replication and their nodes say of them, read in one round trip from one node and one from each
// node that matters, and decisions about whether, how and at what cost each can go to another node (reference §6). It runs
// nothing but reads; the decisions are functions of values.
package guest
