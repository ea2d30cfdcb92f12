package pve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// NodeState is what one node says about itself and its cluster, read in one round trip. A node of any kind can be
// read: what it does not have is simply empty.
type NodeState struct {
	// Host is the name in the inventory, Hostname the node's own, which is its name in a cluster.
	Host, Hostname string
	// Err is why nothing could be read: no connection, or no answer that makes sense.
	Err error
	// Unread are reads that failed although the thing is there, with the reason, by the name of the read. A gate that
	// rests on one of them counts as closed.
	Unread map[string]string

	UID             int
	FQDN            string
	Kernel, Arch    string
	BootID          string
	MachineID       string
	CPUs            int
	Time            time.Time
	OS              OSRelease
	MemoryTotal     int64 // bytes
	MemoryAvailable int64
	Interfaces      []Interface
	HostnameAddrs   []netip.Addr // what the node's own name resolves to, there
	Packages        map[string]string
	Units           map[string]Unit
	Tracking        *Tracking // nil without chrony

	Mounted   bool // pmxcfs is mounted on /etc/pve
	Writable  bool // /etc/pve may be written: the node is quorate, or in no cluster
	Members   *Members
	Guests    []Guest
	Conf      *CorosyncConf // /etc/pve/corosync.conf, nil if there is none
	LocalConf *CorosyncConf // /etc/corosync/corosync.conf
	// ConfsEqual says that both files are there and the same, byte by byte.
	ConfsEqual  bool
	ConfSum     string // SHA-256 of /etc/pve/corosync.conf
	Authkey     bool   // /etc/corosync/authkey is there
	ConfigDB    bool   // /var/lib/pve-cluster/config.db is there
	DeviceStore bool   // certificates of a QDevice are there
	IDRSA       bool   // /root/.ssh/id_rsa.pub is there
	Certs       []string
	QDeviceNote []byte        // content of the note of a QDevice that was taken off for a while
	Quorum      *QuorumStatus // nil while corosync does not answer
	Links       []PeerLink
	Joining     bool // pvecm add or pvecm create runs
	Restart     Restart
	// AuthorizedKeys and HostKeys are lines of public keys.
	AuthorizedKeys, HostKeys []string
}

// Restart is the restart of a node that pxrun asked for last; the zero value if there was none.
type Restart struct {
	Run    string
	BootID string    // of the system that was to go down
	At     time.Time // by the node's clock
}

// restartWithin is how long a node that was told to restart is expected to go down: guests that are shut down with it take minutes.
const restartWithin = 10 * time.Minute

// GoingDown reports whether the node was told to restart and has not gone down yet, by which run and how long ago. One that has been up
// for long after that did not heed it.
func (s NodeState) GoingDown() (run string, since time.Duration, yes bool) {
	r := s.Restart
	if r.BootID == "" || r.BootID != s.BootID || s.Time.IsZero() || r.At.IsZero() {
		return "", 0, false
	}
	since = s.Time.Sub(r.At)
	return r.Run, since, since < restartWithin && since > -restartWithin
}

// ReadNode reads a node. It returns a state in every case; Err in it is set when nothing could be read.
func ReadNode(ctx context.Context, host string, conn transport.Conn, o Options) NodeState {
	command := ProbeNode(o)
	result, err := conn.Run(ctx, command)
	if err != nil {
		return NodeState{Host: host, Err: fmt.Errorf("read the state of %s: %w", host, err)}
	}
	return ParseNode(host, result.Stdout)
}

// ReadCluster reads hosts at once. The states stand in the order of the hosts.
func ReadCluster(ctx context.Context, hosts []string, o Options, connect func(ctx context.Context, host string) (transport.Conn, error)) []NodeState {
	states := make([]NodeState, len(hosts))
	p := pool.New().WithMaxGoroutines(64)
	for i, host := range hosts {
		p.Go(func() {
			conn, err := connect(ctx, host)
			if err != nil {
				states[i] = NodeState{Host: host, Err: err}
				return
			}
			states[i] = ReadNode(ctx, host, conn, o)
		})
	}
	p.Wait()
	return states
}

// ParseNode reads the output of the command of ProbeNode.
func ParseNode(host string, out []byte) NodeState {
	frames, err := frame.Parse(out)
	if err != nil {
		return NodeState{Host: host, Unread: map[string]string{}, Err: fmt.Errorf("read the state of %s: %w", host, err)}
	}
	return NodeOf(host, frames)
}

// NodeOf makes a state of the answers to NodeReads.
func NodeOf(host string, frames map[string]frame.Answer) NodeState {
	s := NodeState{Host: host, Unread: map[string]string{}}
	p := parser{frames, &s}
	p.identity()
	p.system()
	p.pmxcfs()
	p.corosync()
	p.access()
	return s
}

// parser fills a state from frames.
type parser struct {
	frames map[string]frame.Answer
	*NodeState
}

// text returns the answer of a read that succeeded. It notes why a read failed, unless it failed because there is
// nothing to read.
func (p parser) text(name string, okay ...int) ([]byte, bool) {
	f, asked := p.frames[name]
	switch {
	case !asked:
		return nil, false
	case f.RC == 0 || slices.Contains(okay, f.RC):
		return f.Text, true
	case f.Hung():
		p.Unread[name] = "no answer within its time limit"
	case f.RC == 126:
		p.Unread[name] = firstLine(f.Text)
	case strings.Contains(string(f.Text), "No such file or directory"), f.RC == 127 && name != "addr" && name != "id":
		// It is not there: no cluster, no chrony, no Proxmox VE.
	case name == "addr", name == "members", name == "guests", name == "conf", name == "localconf", name == "certs", name == "here", name == "id":
		p.Unread[name] = firstLine(f.Text)
	}
	return nil, false
}

func (p parser) failed(name string, err error) { p.Unread[name] = err.Error() }

func (p parser) identity() {
	p.UID = -1
	text, _ := p.text("id", 1) // one of its files may be missing
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "uid":
			if n, err := strconv.Atoi(value); err == nil {
				p.UID = n
			}
		case "hostname":
			// A host may be called by its full name; Proxmox uses what stands before the first dot.
			p.Hostname, _, _ = strings.Cut(value, ".")
		case "kernel":
			p.Kernel = value
		case "arch":
			p.Arch = value
		case "cpus":
			p.CPUs = atoi(value)
		case "time":
			p.Time = parseUnixTime(value)
		case "boot_id":
			p.BootID = value
		case "machine_id":
			p.MachineID = value
		case "sent_run":
			p.Restart.Run = value
		case "sent_boot_id":
			p.Restart.BootID = value
		case "sent_at":
			p.Restart.At = parseUnixTime(value)
		}
	}
	if text, ok := p.text("fqdn"); ok {
		p.FQDN = firstLine(text)
	}
}

// parseUnixTime reads seconds with a fraction, as date +%s.%N prints them; the zero time if it is none.
func parseUnixTime(s string) time.Time {
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil || nanos < 0 {
		nanos = 0
	}
	return time.Unix(seconds, nanos)
}

func (p parser) system() {
	if text, ok := p.text("os"); ok {
		p.OS = ParseOSRelease(text)
	}
	if text, ok := p.text("mem"); ok {
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			switch f[0] {
			case "MemTotal:":
				p.MemoryTotal = int64(atoi(f[1])) << 10
			case "MemAvailable:":
				p.MemoryAvailable = int64(atoi(f[1])) << 10
			}
		}
	}
	if text, ok := p.text("addr"); ok {
		interfaces, err := ParseInterfaces(text)
		if err != nil {
			p.failed("addr", err)
		}
		p.Interfaces = interfaces
	}
	if text, ok := p.text("resolve"); ok {
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 0 {
				continue
			}
			if a, err := netip.ParseAddr(f[0]); err == nil && !slices.Contains(p.HostnameAddrs, a.Unmap()) {
				p.HostnameAddrs = append(p.HostnameAddrs, a.Unmap())
			}
		}
	}
	// dpkg-query exits 1 when one of the packages is not known, and still prints the others.
	if text, ok := p.text("packages", 1); ok {
		p.Packages = ParsePackages(text)
	}
	if text, ok := p.text("units"); ok {
		p.Units = ParseUnits(text)
	}
	if text, ok := p.text("time"); ok {
		if t, err := ParseTracking(text); err == nil {
			p.Tracking = &t
		}
	}
}

func (p parser) pmxcfs() {
	// Outside of the mount both programs fail: status 1 is an answer here.
	text, _ := p.text("pmxcfs", 1)
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "nodes/"):
			p.Mounted = true
		case line == "755":
			p.Writable = p.Mounted
		}
	}
	if text, ok := p.text("members"); ok {
		m, err := ParseMembers(text)
		if err != nil {
			p.failed("members", err)
		}
		p.Members = m
	}
	if text, ok := p.text("guests"); ok {
		guests, err := ParseGuests(text)
		if err != nil {
			p.failed("guests", err)
		}
		p.Guests = guests
	}
	if text, ok := p.text("certs"); ok {
		for line := range strings.Lines(string(text)) {
			if parts := strings.Split(strings.TrimSpace(line), "/"); len(parts) == 6 {
				p.Certs = append(p.Certs, parts[4])
			}
		}
	}
	p.QDeviceNote, _ = p.text("qdevice_note")
}

func (p parser) corosync() {
	shared, hasShared := p.conf("conf")
	local, hasLocal := p.conf("localconf")
	p.Conf, p.LocalConf = shared, local
	if hasShared {
		sum := sha256.Sum256(p.frames["conf"].Text)
		p.ConfSum = hex.EncodeToString(sum[:])
	}
	p.ConfsEqual = hasShared && hasLocal && strings.TrimSpace(string(p.frames["conf"].Text)) == strings.TrimSpace(string(p.frames["localconf"].Text))
	text, _ := p.text("here")
	for line := range strings.Lines(string(text)) {
		switch strings.TrimSpace(line) {
		case "/etc/corosync/authkey":
			p.Authkey = true
		case "/var/lib/pve-cluster/config.db":
			p.ConfigDB = true
		case "/etc/corosync/qdevice/net/nssdb":
			p.DeviceStore = true
		case "/root/.ssh/id_rsa.pub":
			p.IDRSA = true
		}
	}
	if text, ok := p.text("quorum", 2); ok {
		q, err := ParseQuorum(text)
		if err != nil {
			p.failed("quorum", err)
		}
		p.Quorum = q
	}
	if text, ok := p.text("links"); ok {
		p.Links = ParseLinks(text)
	}
	if text, ok := p.text("stats"); ok && p.Quorum != nil {
		p.Links = AddKnetStats(p.Links, text, p.Quorum.NodeID)
	}
	if text, ok := p.text("joining"); ok {
		p.Joining = atoi(firstLine(text)) > 0
	}
}

func (p parser) conf(name string) (*CorosyncConf, bool) {
	text, ok := p.text(name)
	if !ok {
		return nil, false
	}
	c, err := ParseCorosyncConf(text)
	if err != nil {
		p.failed(name, err)
		return nil, false
	}
	return c, true
}

func (p parser) access() {
	if text, ok := p.text("keys"); ok {
		p.AuthorizedKeys = KeyLines(text)
	}
	if text, ok := p.text("hostkeys"); ok {
		p.HostKeys = KeyLines(text)
	}
}

// KeyLines returns the lines of a file of public keys that hold one.
func KeyLines(text []byte) []string {
	var keys []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && strings.Contains(line, " ") {
			keys = append(keys, line)
		}
	}
	return keys
}

// IsPVE reports whether the node has Proxmox VE.
func (s NodeState) IsPVE() bool { return s.Packages["pve-manager"] != "" }

// Version is the version of pve-manager, "" if there is none.
func (s NodeState) Version() string { return s.Packages["pve-manager"] }

// ClusterName is the cluster that the node's own files name, "" if none do.
func (s NodeState) ClusterName() string {
	switch {
	case s.Conf != nil:
		return s.Conf.ClusterName
	case s.LocalConf != nil:
		return s.LocalConf.ClusterName
	}
	return ""
}

// HasAddress reports whether an interface of the node carries the address.
func (s NodeState) HasAddress(a netip.Addr) bool {
	_, ok := InterfaceOf(s.Interfaces, a)
	return ok
}

// HostnameAddr is the address that the node's name stands for: the first that is not loopback.
func (s NodeState) HostnameAddr() (netip.Addr, bool) {
	i := slices.IndexFunc(s.HostnameAddrs, func(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return s.HostnameAddrs[i], true
}
