package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/zclconf/go-cty/cty"
)

// Defaults of labs. A join takes 20 s of a node's time; at this speed it is watched without waiting for it.
const (
	defaultSpeed   = 20
	defaultRelease = "9.1.8"
)

// labSpec makes the lab of an inventory: nodes of clusters are fresh Proxmox VE nodes, other hosts are plain Debian.
func labSpec(site *inventory.Site, release string, speed float64, seed uint64) lab.Spec {
	spec := lab.Spec{Speed: speed, Seed: seed}
	for i, h := range site.Hosts {
		one := lab.HostSpec{Name: h.Name, Address: labAddress(h, i)}
		if h.Node != nil {
			one.PVE = release
			for _, l := range h.Node.Links {
				one.Links = append(one.Links, l.Address.String())
			}
			one.Links = append(one.Links, labAddresses(site, h)...)
			one.Disks = labDisks(h.Node.OSDs)
			one.BMC = labController(h)
		}
		if user := h.SSH.User; user != "" && user != "root" {
			account := lab.UserSpec{Name: user, Sudo: "none", Password: h.SSH.Become.Password.Reveal()}
			switch {
			case h.SSH.Become.Method == "":
			case account.Password == "":
				account.Sudo = "nopasswd"
			default:
				account.Sudo = "password"
			}
			one.Users = []lab.UserSpec{account}
		}
		spec.Hosts = append(spec.Hosts, one)
	}
	return spec
}

// labAddresses are the host's further addresses, such as those in the networks of storage: every variable of the host that is
// an address which nobody else names. One that several hosts name is a gateway, a resolver or the like.
func labAddresses(site *inventory.Site, h inventory.Host) []string {
	named := func(addr string) (times int) {
		for i, other := range site.Hosts {
			if labAddress(other, i) == addr {
				times++
			}
			if other.Node != nil && slices.ContainsFunc(other.Node.Links, func(l inventory.Link) bool { return l.Address.String() == addr }) {
				times++
			}
			for name := range other.Vars {
				if a, ok := addressVar(other, name); ok && a == addr {
					times++
				}
			}
		}
		return times
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h.Vars)) {
		if a, ok := addressVar(h, name); ok && name != controllerVar && named(a) == 1 {
			out = append(out, a)
		}
	}
	return out
}

// controllerVar is the variable of a host in which the address of its management controller stands.
const controllerVar = "bmc"

// labController gives a host whose management controller the inventory knows one that lets anybody in.
func labController(h inventory.Host) *bmc.Spec {
	if a, ok := addressVar(h, controllerVar); ok {
		return &bmc.Spec{Address: a}
	}
	return nil
}

// addressVar is a variable of a host that is an address.
func addressVar(h inventory.Host, name string) (string, bool) {
	v, there := h.Vars[name]
	if !there {
		return "", false
	}
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return "", false
	}
	a, err := netip.ParseAddr(v.AsString())
	return a.Unmap().String(), err == nil
}

// labDisks are free disks for the OSDs of a node and for their databases, each once.
func labDisks(osds []inventory.OSD) []disk.Spec {
	var out []disk.Spec
	seen := map[string]bool{}
	for _, o := range osds {
		for _, path := range []string{o.Device, o.DBDevice, o.WALDevice} {
			if path == "" || seen[path] {
				continue
			}
			seen[path] = true
			one := disk.Spec{Rotational: o.Class == "hdd" && path == o.Device}
			name := strings.TrimPrefix(path, "/dev/")
			switch id, byID := strings.CutPrefix(name, "disk/by-id/"); {
			case byID:
				one.ID = id
			case strings.HasPrefix(name, "disk/"):
				one.Links = []string{strings.TrimPrefix(name, "disk/")}
			default:
				one.Device = name
			}
			out = append(out, one)
		}
	}
	return out
}

// labAddress is the host's address in the lab. A host that the inventory knows by a DNS name gets one of the range for
// benchmarks, which no real network uses.
func labAddress(h inventory.Host, i int) string {
	if a, err := netip.ParseAddr(h.Address); err == nil {
		return a.Unmap().String()
	}
	return fmt.Sprintf("198.18.%d.%d", i/250, 1+i%250)
}

// labAccess is a lab as the SSH client needs it.
type labAccess struct {
	IdentityFile, KnownHostsFile string
	site                         *inventory.Site // as it is reached in the lab
	dial                         func(ctx context.Context, network, addr string) (net.Conn, error)
	names                        map[string]string // address in the inventory → name in the lab
}

// DialContext connects to the machine of the lab that stands for an address of the inventory.
func (l *labAccess) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if name, ok := l.names[host]; ok {
		host = name
	}
	conn, err := l.dial(ctx, network, net.JoinHostPort(host, port))
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "dial" {
		return nil, &net.OpError{Op: failed.Op, Net: failed.Net, Addr: wantedAddr(addr), Err: failed.Err} // the address that the site knows
	}
	return conn, err
}

// wantedAddr is an address that is only shown.
type wantedAddr string

func (a wantedAddr) Network() string { return "tcp" }
func (a wantedAddr) String() string  { return string(a) }

// newLabAccess prepares an inventory for a lab: what concerns the real machines' keys is left out, everything else
// stays as it is.
func newLabAccess(site *inventory.Site, identity, knownHosts string, dial func(context.Context, string, string) (net.Conn, error)) *labAccess {
	l := &labAccess{IdentityFile: identity, KnownHostsFile: knownHosts, dial: dial, names: map[string]string{}}
	inLab := *site
	inLab.Hosts = slices.Clone(site.Hosts)
	for i := range inLab.Hosts {
		h := &inLab.Hosts[i]
		l.names[h.Address] = h.Name
		h.SSH.IdentityFiles, h.SSH.Certificate, h.SSH.KnownHosts, h.SSH.HostKey = nil, "", nil, ""
		h.SSH.Port, h.SSH.NoConfig, h.SSH.HostKeys = 0, true, inventory.HostKeysStrict
		h.Address = labAddress(*h, i)
		l.names[h.Address] = h.Name
	}
	l.site = &inLab
	return l
}

// labDir is where the lab of a site is kept: one for each folder that sites lie in.
func (a *app) labDir(doc *runbooks.Document) (string, error) {
	state, err := a.stateDir()
	if err != nil {
		return "", err
	}
	if len(doc.Names) == 0 {
		return "", invalid("the site has no files")
	}
	folder, err := filepath.Abs(filepath.Dir(doc.Names[0]))
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	sum := sha256.Sum256([]byte(folder))
	return filepath.Join(state, "lab", filepath.Base(folder)+"-"+hex.EncodeToString(sum[:4])), nil
}

// runningLab finds the lab of a site if one runs; else the error is lab.ErrNoLab.
func (a *app) runningLab(ctx context.Context, doc *runbooks.Document) (lab.Access, error) {
	dir, err := a.labDir(doc)
	if err != nil {
		return lab.Access{}, err
	}
	access, err := lab.LoadAccess(dir)
	if err != nil {
		return lab.Access{}, err
	}
	if _, err := access.Ask(ctx, lab.Request{Op: "status"}); err != nil {
		return lab.Access{}, err
	}
	return access, nil
}

// labRuns reports whether there is a lab to go on with.
func (a *app) labRuns(ctx context.Context, doc *runbooks.Document) bool {
	_, err := a.runningLab(ctx, doc)
	return err == nil
}

// labFor finds the running lab of a site, or makes one in this process that stop takes down.
func (a *app) labFor(ctx context.Context, doc *runbooks.Document, release string, speed float64) (_ *labAccess, stop func(), err error) {
	running, err := a.runningLab(ctx, doc)
	if err == nil {
		for _, h := range doc.Site.Hosts {
			if !slices.ContainsFunc(running.Spec.Hosts, func(s lab.HostSpec) bool { return s.Name == h.Name }) {
				return nil, nil, invalid("the running lab has no host %q: the files have changed since it was started.\nStart it again: pxrun lab down, pxrun lab up", h.Name)
			}
		}
		return newLabAccess(doc.Site, running.IdentityFile, running.KnownHosts, running.Dial), nil, nil
	}
	if !errors.Is(err, lab.ErrNoLab) {
		return nil, nil, err
	}
	spec := labSpec(doc.Site, release, speed, 1)
	addBackends(&spec, doc)
	made, err := lab.New(spec)
	if err != nil {
		return nil, nil, &exitError{exitInvalid, fmt.Errorf("the inventory cannot be simulated: %w", err)}
	}
	dir, err := os.MkdirTemp("", "pxrun-lab-")
	if err != nil {
		made.Close()
		return nil, nil, err
	}
	stop = func() {
		made.Close()
		_ = os.RemoveAll(dir)
	}
	if err := made.Start(ctx); err != nil {
		stop()
		return nil, nil, err
	}
	access, err := made.Access(dir)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return newLabAccess(doc.Site, access.IdentityFile, access.KnownHosts, made.Dial), stop, nil
}

// labHosts are the names of the machines of a lab, for messages.
func labHosts(spec lab.Spec) string {
	names := make([]string, len(spec.Hosts))
	for i, h := range spec.Hosts {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}
