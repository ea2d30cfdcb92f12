package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// addRequest is what a member is asked to do for a joining node.
type addRequest struct {
	node          string
	apiVersion    int
	nodeID, votes int
	force         bool
	links         map[int]string
	fallback      string
}

func addnodeOptions() map[string]pvetool.Option {
	return withLinks(map[string]pvetool.Option{
		"nodeid": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)}, "votes": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)},
		"force": {Kind: pvetool.Bool}, "new_node_ip": {}, "apiversion": {Kind: pvetool.Int},
	})
}

var errNoQuorum = errors.New("cluster not ready - no quorum?")

// pvecmAddnode is `pvecm addnode`, run on a member for the joining node.
func (n *Node) pvecmAddnode(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, addnodeOptions())
	if perr == nil && len(o.Positional) != 1 {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	}
	if perr == nil {
		if problem := checkNodeName(o.Positional[0]); problem != "" {
			perr = &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"node: " + problem}}
		}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["addnode"])
	}
	r := addRequest{
		node: o.Positional[0], apiVersion: o.Int("apiversion"), nodeID: o.Int("nodeid"), votes: 1, force: o.Is("force"),
		fallback: o.Values["new_node_ip"],
	}
	if _, given := o.Values["votes"]; given {
		r.votes = o.Int("votes")
	}
	r.links, _ = linksOf(o)
	err := n.addNode(ctx, p.View(), p.Stderr, r)
	var invalid *invalidConfError
	switch {
	case errors.As(err, &invalid):
		return pvetool.Die(p, pvetool.ExitNoEntry, "%v", err)
	case err != nil:
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	return 0
}

// invalidConfError is a cluster config that Proxmox does not accept.
type invalidConfError struct{ problems []string }

func (e *invalidConfError) Error() string {
	text := "invalid corosync.conf"
	for i, problem := range e.problems {
		text += fmt.Sprintf("\nerror%d: %s", i, problem)
	}
	return text
}

// addNode puts a node into the cluster's config. The expected votes rise before the node is there.
func (n *Node) addNode(ctx context.Context, v *vfs.View, messages io.Writer, r addRequest) error {
	if !n.canWrite() {
		return errNoQuorum
	}
	if r.apiVersion < 0 || r.apiVersion > 1 {
		return fmt.Errorf("error: unsupported old API version on joining node (%d)", r.apiVersion)
	}
	return n.locked(ctx, v, messages, "file-corosync_conf", func() error {
		conf, err := readConf(v)
		if err != nil {
			return err
		}
		if problems := conf.Verify(); len(problems) > 0 {
			return &invalidConfError{problems: problems}
		}
		entry, err := newEntry(conf, r, messages)
		if err != nil {
			return err
		}
		conf.SetNode(entry)
		conf.Bump()
		if err := v.MkdirAll("/etc/pve/nodes/"+r.node, 0o755); err != nil {
			return openError("/etc/pve/corosync.conf", err)
		}
		return writeConf(v, conf)
	})
}

// newEntry decides the joining node's entry in the node list, or why there can be none.
func newEntry(conf *Conf, r addRequest, messages io.Writer) (ConfNode, error) {
	nodes := conf.Nodes()
	links := maps.Clone(r.links)
	if len(links) == 0 {
		switch {
		case r.fallback == "":
			return ConfNode{}, errors.New("no links and no fallback ip (new_node_ip) given, cannot join cluster")
		case len(conf.Links()) > 1:
			return ConfNode{}, errors.New("no links given but multiple links found on other nodes, fallback only supported on single-link clusters")
		}
		links = map[int]string{conf.Links()[0]: r.fallback}
	}
	for _, link := range slices.Sorted(maps.Keys(links)) {
		for _, other := range nodes {
			if other.Rings[link] == links[link] && other.Name != r.node {
				return ConfNode{}, fmt.Errorf("corosync: address '%s' already used on link ring%d_addr by node '%s'", links[link], link, other.Name)
			}
		}
	}
	for _, link := range conf.Links() {
		if _, given := links[link]; !given {
			return ConfNode{}, fmt.Errorf("corosync: link %d exists in cluster config but wasn't specified for new node", link)
		}
	}
	for _, link := range slices.Sorted(maps.Keys(links)) {
		if !slices.Contains(conf.Links(), link) {
			return ConfNode{}, fmt.Errorf("corosync: link %d specified for new node doesn't exist in cluster config", link)
		}
	}
	entry := ConfNode{Name: r.node, ID: r.nodeID, Votes: r.votes, Rings: links}
	if old, ok := conf.Node(r.node); ok {
		if !r.force || (r.nodeID != 0 && r.nodeID != old.ID) || r.votes != old.Votes {
			return ConfNode{}, fmt.Errorf("can't add existing node '%s'", r.node)
		}
		fmt.Fprintf(messages, "forcing overwrite of configured node '%s'\n", r.node)
		entry.ID = old.ID
	}
	if entry.ID == 0 {
		entry.ID = conf.FreeID()
	} else if other, taken := conf.NodeByID(entry.ID); taken && other.Name != r.node {
		return ConfNode{}, fmt.Errorf("can't use duplicate nodeid '%d' of node '%s'", entry.ID, other.Name)
	}
	return entry, nil
}

// readConf reads the cluster's config. A node without one has an empty one.
func readConf(v *vfs.View) (*Conf, error) {
	text, err := v.ReadFile("/etc/pve/corosync.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return &Conf{root: newSection()}, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseConf(string(text))
}

// writeConf replaces the cluster's config as Proxmox does: through corosync.conf.new.
func writeConf(v *vfs.View, conf *Conf) error {
	const name = "/etc/pve/corosync.conf.new"
	if err := replace(v, name, []byte(conf.String()), 0o640); err != nil {
		return openError("/etc/pve/corosync.conf", err)
	}
	if err := v.Rename(name, "/etc/pve/corosync.conf"); err != nil {
		return fmt.Errorf("atomic rename file '%s' failed: %s", name, machine.Reason(err))
	}
	return nil
}

// locked runs code under a lock of the cluster file system: a folder, made at most once over the whole cluster.
func (n *Node) locked(ctx context.Context, v *vfs.View, messages io.Writer, id string, code func() error) error {
	dir := "/etc/pve/priv/lock/" + id
	if err := v.MkdirAll("/etc/pve/priv/lock", 0o755); err != nil {
		return lockError(id, "no quorum!")
	}
	const attempts = 10
	for i := 0; ; i++ {
		err := v.Mkdir(dir, 0o755)
		if err == nil {
			break
		}
		if i == attempts-1 {
			if !errors.Is(err, fs.ErrExist) {
				return lockError(id, "no quorum!")
			}
			return lockError(id, "got lock request timeout")
		}
		_ = v.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)) // asks for an expired lock to be taken away
		fmt.Fprintf(messages, "trying to acquire cfs lock '%s' ...\n", id)
		if err := n.w.clock.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	defer func() { _ = v.Remove(dir) }()
	return code()
}

func lockError(id, reason string) error { return fmt.Errorf("cfs-lock '%s' error: %s", id, reason) }

// pvecmDelnode is `pvecm delnode`.
func (n *Node) pvecmDelnode(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, map[string]pvetool.Option{"node": {}})
	if perr == nil && len(o.Positional) != 1 {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["delnode"])
	}
	name := o.Positional[0]
	conf, err := readConf(p.View())
	if err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	for _, entry := range conf.Nodes() {
		if slices.Contains(slices.Collect(maps.Values(entry.Rings)), name) {
			name = entry.Name
		}
	}
	if name == n.name {
		return pvetool.Die(p, pvetool.ExitDie, "Cannot delete myself from cluster!")
	}
	if !n.canWrite() {
		return pvetool.Die(p, pvetool.ExitDie, "%v", errNoQuorum)
	}
	entry, known := conf.Node(name)
	if !known {
		return pvetool.Die(p, pvetool.ExitDie, "Node/IP: %s is not a known host of the cluster.", o.Positional[0])
	}
	// corosync-cfgtool complains when the node is dead already; nobody minds.
	pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-cfgtool", "-k", fmt.Sprint(entry.ID))
	if n.phase(ctx, "delnode:killed", 500*time.Millisecond) != nil {
		return pvetool.ExitDie
	}
	conf.RemoveNode(name)
	conf.Bump()
	if err := writeConf(p.View(), conf); err != nil {
		return pvetool.Die(p, pvetool.ExitAccess, "%v", err)
	}
	return 0
}
