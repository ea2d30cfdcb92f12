// Package lab is a simulated Proxmox site: machines (package machine) with what Proxmox adds (package cluster), joined
// by a network, each behind a real SSH server on a loopback port, on a clock that can run faster than time, with faults
// that can be planned. Lab is the main type; an Access is what another process needs to reach a running lab.
//
// The lab knows nothing of pxrun: it imports none of its packages, so that the two cannot share their mistakes.
package lab
