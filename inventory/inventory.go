// Package inventory holds what a site's files say exists: clusters and their nodes, other hosts, groups, and how each
// is reached. It is plain data: package runbooks reads it from HCL, and nothing here connects to anything.
package inventory

import (
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// Site is everything that a set of files declares.
type Site struct {
	Clusters []*Cluster
	// Hosts are all hosts, nodes of clusters included, in the files' order. Names are unique over the site.
	Hosts  []Host
	Groups []Group
}

// Cluster is a Proxmox VE cluster as it is wanted.
type Cluster struct {
	Name  string
	Nodes []string // host names in the files' order
	SSH   SSH      // defaults for its nodes
	Range diag.Range
}

// Group is a named list of hosts.
type Group struct {
	Name  string
	Hosts []string
	Vars  map[string]cty.Value
	Range diag.Range
}

// Host is one machine that pxrun can reach.
type Host struct {
	Name    string
	Address string // IP address or DNS name to connect to
	Cluster string // "" for a host that is no cluster node
	Groups  []string
	Node    *Node // set for cluster nodes
	SSH     SSH   // effective settings: host over cluster over site defaults
	Vars    map[string]cty.Value
	Range   diag.Range
}

// Node is what is particular to a cluster node.
type Node struct {
	// Links are the corosync addresses, link 0 first. Empty means: one link on the address.
	Links []Link
	// ID is the corosync node id; 0 lets Proxmox choose the lowest free one.
	ID int
	// Votes is the number of quorum votes.
	Votes int
	OSDs  []OSD
}

// Link is one corosync link of a node. Priority is knet_link_priority: in passive mode the connected link with the
// highest number carries the traffic (reference §3.1); it is one value per link of the cluster.
type Link struct {
	Address  netip.Addr
	Priority int
}

// OSD is a disk meant for Ceph, named by its /dev/disk/by-id path.
type OSD struct {
	Device, DBDevice, WALDevice string
	Class                       string
	// Wipe permits to wipe what lies on the disk now: the word that a plan prints for it. "" permits nothing.
	Wipe string
}

var wipeWord = regexp.MustCompile(`^[a-z0-9]+-[0-9a-f]{8}$`)

// WipeWord reports whether a text has the form of a permission to wipe a disk.
func WipeWord(text string) bool { return wipeWord.MatchString(text) }

// HostKeyPolicy says what to do with a host key that is not known yet. A key that differs from the known one is
// refused under every policy.
type HostKeyPolicy string

// The policies.
const (
	HostKeysStrict    HostKeyPolicy = "strict"
	HostKeysAcceptNew HostKeyPolicy = "accept_new"
)

// SSH says how to log in to a host. Zero values mean: agent, then ssh_config, then OpenSSH's defaults.
type SSH struct {
	User           string
	Port           int
	IdentityFiles  []string
	Certificate    string
	Password       secret.String
	Passphrase     secret.String
	HostKeys       HostKeyPolicy
	HostKey        string // one public key line "ssh-ed25519 AAAA…" that the host must show
	KnownHosts     []string
	Jump           []string // names of hosts or user@host:port, nearest first
	Become         Become
	ConnectTimeout time.Duration
	// Sessions caps the sessions that are open at once on the connection; 0 means 4 (sshd frees its MaxSessions late).
	Sessions int
	// NoConfig ignores ~/.ssh/config for this host.
	NoConfig bool
}

// Become says how to turn the login user into root.
type Become struct {
	Method   string // "" or "sudo"
	Password secret.String
}

// Host returns the host of a name.
func (s *Site) Host(name string) (Host, bool) {
	i := slices.IndexFunc(s.Hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		return Host{}, false
	}
	return s.Hosts[i], true
}

// Cluster returns the cluster of a name.
func (s *Site) Cluster(name string) (*Cluster, bool) {
	i := slices.IndexFunc(s.Clusters, func(c *Cluster) bool { return c.Name == name })
	if i < 0 {
		return nil, false
	}
	return s.Clusters[i], true
}
