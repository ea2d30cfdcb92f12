// Package lease keeps two runs off the same hosts. A run holds a lease on each of its hosts, a small file under
// /run/lock that names the run and when it expires by the host's own clock; in a cluster it also holds one in pmxcfs,
// which every node sees. The lease survives the creation of a cluster and joins: while /etc/pve is away or read-only,
// the files under /run/lock stand.
package lease
