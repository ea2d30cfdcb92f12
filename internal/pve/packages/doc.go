// Package packages reads what apt and dpkg say on a host and decides about an upgrade: whether it may begin, what it would
// touch, and whether the host has to be restarted afterwards and why. The main types are State and Boot. Parsing and deciding
// are pure; the package runs nothing itself but makes the reads (reference §7).
package packages
