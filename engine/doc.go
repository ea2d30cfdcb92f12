// Package engine plans and performs the steps of a runbook: order, batches, rolling, retries, locks, journal, undo,
// events. It knows no HCL, no SSH, no terminal and no Proxmox.
//
// An Engine is for one run. Plan connects to all hosts at once, fetches what the tasks are going to read in one round
// trip for each host, and asks every module what it would change. Apply goes through the same tasks again: each is
// planned anew right before it acts, may do only what the plan announced, writes every change down before it makes it,
// and has held only if a further plan finds nothing left to do.
package engine
