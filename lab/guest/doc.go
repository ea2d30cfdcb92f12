// Package guest simulates virtual machines and containers: their configs in /etc/pve, their processes, qm and pct, the
// paths of pvesh about them, and how they start, stop and move between nodes. It behaves as the reference says in §6,
// the misleading parts included: tasks that fail after the guest has moved, and commands that only ask the HA manager.
package guest
