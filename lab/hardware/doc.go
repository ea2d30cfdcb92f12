// Package hardware models what surrounds a Proxmox node: the repositories that it installs from and its subscription, its
// bonds and network cards, and its clock. The main types are Repositories, Bonds and Chrony. It knows machines, not
// clusters.
package hardware
