// Package engine plans and performs the steps of a runbook: order, batches, rolling, retries, locks, journal, undo,
// events. It knows no HCL, no SSH, no terminal and no Proxmox.
package engine
