package cluster

import (
	"context"
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// pvesh is the program of that name.
func (n *Node) pvesh(ctx context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	const start = 800 * time.Millisecond // it loads the whole API
	if n.w.clock.Sleep(ctx, start) != nil {
		return pvetool.ExitDie
	}
	return n.api.Shell(ctx, p)
}

type object = pvetool.Object

// addPaths puts the paths of this package into pvesh.
func (n *Node) addPaths() {
	for path, read := range map[string]func() (any, error){
		"/version": func() (any, error) {
			parts := strings.Split(n.Release().Version, ".")
			return object{"release": parts[0] + "." + parts[1], "repoid": n.Release().Hash, "version": n.Release().Version}, nil
		},
		"/cluster/status":            func() (any, error) { return n.apiStatus(), nil },
		"/cluster/config/apiversion": func() (any, error) { return 1, nil },
		"/cluster/config/nodes":      n.apiNodes,
		"/cluster/config/totem":      n.apiTotem,
		"/cluster/config/join":       n.apiJoinInfo,
		"/cluster/config/qdevice":    func() (any, error) { return n.apiDevice(), nil },
	} {
		n.api.Handle(pvetool.Route{Verb: "get", Path: path, Do: func(context.Context, pvetool.Request) (any, error) { return read() }})
	}
	known := addOptions()
	known["password"] = pvetool.Option{}
	n.api.Handle(pvetool.Route{
		Verb: "create", Path: "/cluster/config/join", Options: known, Required: []string{"hostname", "password", "fingerprint"}, Do: n.pveshJoin,
	})
}

func (n *Node) apiStatus() any {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	conf := n.clusterConf()
	if conf == nil || !n.pmx.clusteredSince {
		return []object{{
			"id": "node/" + n.name, "ip": n.ip.String(), "level": "", "local": 1, "name": n.name, "nodeid": 0, "online": 1, "type": "node",
		}}
	}
	nodes := conf.Nodes()
	out := []object{{
		"id": "cluster", "name": conf.ClusterName(), "nodes": len(nodes), "quorate": flag(n.writable()), "type": "cluster", "version": conf.Version(),
	}}
	for _, entry := range nodes {
		o := object{
			"id": "node/" + entry.Name, "level": "", "local": flag(entry.Name == n.name), "name": entry.Name, "nodeid": entry.ID,
			"online": flag(n.online(entry)), "type": "node",
		}
		if ip := n.pmx.ips[entry.Name]; ip != "" {
			o["ip"] = ip
		}
		out = append(out, o)
	}
	return out
}

func (n *Node) apiNodes() (any, error) {
	conf, err := readConf(n.m.FS.View)
	if err != nil {
		return nil, err
	}
	out := []object{}
	for _, s := range conf.nodeSections() {
		o := object{"node": s.keys["name"]}
		for key, value := range s.keys {
			o[key] = value
		}
		out = append(out, o)
	}
	return out, nil
}

func (n *Node) apiTotem() (any, error) {
	conf, err := readConf(n.m.FS.View)
	if err != nil {
		return nil, err
	}
	return conf.totemObject(), nil
}

func (c *Conf) totemObject() object {
	totem := c.root.sub("totem")
	out := object{}
	for key, value := range totem.keys {
		out[key] = value
	}
	links := object{}
	for _, s := range totem.subs["interface"] {
		link := object{}
		for key, value := range s.keys {
			link[key] = value
		}
		links[s.keys["linknumber"]] = link
	}
	if len(links) > 0 {
		out["interface"] = links
	}
	return out
}

func (n *Node) apiJoinInfo() (any, error) {
	text, err := n.m.FS.ReadFile("/etc/pve/corosync.conf")
	if err != nil {
		return nil, fmt.Errorf("node is not in a cluster, no join info available!") //nolint:revive,staticcheck // Proxmox's words
	}
	conf, err := ParseConf(string(text))
	if err != nil {
		return nil, err
	}
	nodes := []object{}
	for _, s := range conf.nodeSections() {
		name := s.keys["name"]
		o := object{"pve_fp": n.apiFingerprint(name)}
		if other := n.w.Node(name); other != nil {
			o["pve_addr"] = other.ip.String()
		}
		for key, value := range s.keys {
			o[key] = value
		}
		nodes = append(nodes, o)
	}
	return object{
		"config_digest": fmt.Sprintf("%x", sha1.Sum(text)), //nolint:gosec // as above
		"nodelist":      nodes, "preferred_node": n.name, "totem": conf.totemObject(),
	}, nil
}

func (n *Node) apiDevice() any {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.qdev.running || !n.coro.running {
		return object{}
	}
	d, _ := n.coro.conf.Device()
	poll := n.now().UTC().Format("2006-01-02T15:04:05")
	if n.qdev.connected {
		poll += " (cast vote)"
	}
	return object{
		"Algorithm": algorithmName(d.Algorithm), "Last poll call": poll, "Model": "Net", "QNetd host": d.Host + ":5403",
		"State": n.deviceState(), "Tie-breaker": "Node with lowest node ID",
	}
}

// pveshJoin is the join through the API's own path: the same worker, whose task id comes last.
func (n *Node) pveshJoin(ctx context.Context, r pvetool.Request) (any, error) {
	upid, code := n.tasks.Run(ctx, r.Proc, &pvetool.Task{Kind: "clusterjoin"}, func(ctx context.Context, out io.Writer) error {
		return n.joinByAPI(ctx, r.Proc, out, r.Options.Values["hostname"], r.Options, r.Options.Values["password"], &lineReader{r: r.Proc.Stdin})
	})
	if code != 0 {
		return nil, pvetool.ErrKilled
	}
	return upid, nil
}
