// Package pve knows what Proxmox VE is: how its state is read from a node in one round trip, what the answers of its
// programs mean, and pure reasoning about them (votes, membership, half-done joins). The main type is NodeState, what
// one node says about itself and its cluster. The package takes a transport.Conn and knows nothing of SSH, the engine
// or the terminal. Its parsers accept unknown fields: releases add some all the time.
package pve
