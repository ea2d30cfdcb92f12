package cluster

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// pvesh is the program of that name, for the few paths that forming a cluster needs.
func (n *Node) pvesh(ctx context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return die(p, exitDie, "please run as root")
	}
	const start = 800 * time.Millisecond // it loads the whole API
	if n.w.clock.Sleep(ctx, start) != nil {
		return exitDie
	}
	args := p.Args()
	if len(args) < 2 {
		fmt.Fprintln(p.Stderr, "ERROR: no command specified\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]")
		return exitDie
	}
	verb, path := args[0], "/"+strings.Trim(args[1], "/")
	if verb == "create" && path == "/cluster/config/join" {
		return n.pveshJoin(ctx, p, args[2:])
	}
	var body any
	ok := verb == "get"
	if ok {
		body, ok = n.apiRead(path)
	}
	if !ok {
		return die(p, 1, "No '%s' handler defined for '%s'", verb, path)
	}
	if failure, failed := body.(error); failed {
		return die(p, exitDie, "%v", failure)
	}
	if body == nil {
		return 0
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if strings.Contains(strings.Join(args, " "), "json-pretty") {
		encoder.SetIndent("", "   ")
	}
	if err := encoder.Encode(body); err != nil {
		return die(p, exitDie, "%v", err)
	}
	_, _ = p.Stdout.Write(out.Bytes()) // who does not read it is gone
	return 0
}

// object is a JSON object; encoding/json sorts its keys, as Proxmox does.
type object map[string]any

// apiRead answers a GET. A body of type error is a refusal.
func (n *Node) apiRead(path string) (body any, known bool) {
	switch path {
	case "/version":
		parts := strings.Split(n.Release().Version, ".")
		return object{"release": parts[0] + "." + parts[1], "repoid": n.Release().Hash, "version": n.Release().Version}, true
	case "/cluster/status":
		return n.apiStatus(), true
	case "/cluster/config/apiversion":
		return 1, true
	case "/cluster/config/nodes":
		return n.apiNodes(), true
	case "/cluster/config/totem":
		return n.apiTotem(), true
	case "/cluster/config/join":
		return n.apiJoinInfo(), true
	case "/cluster/config/qdevice":
		return n.apiDevice(), true
	}
	return nil, false
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

func (n *Node) apiNodes() any {
	conf, err := readConf(n.m.FS.View)
	if err != nil {
		return err
	}
	out := []object{}
	for _, s := range conf.nodeSections() {
		o := object{"node": s.keys["name"]}
		for key, value := range s.keys {
			o[key] = value
		}
		out = append(out, o)
	}
	return out
}

func (n *Node) apiTotem() any {
	conf, err := readConf(n.m.FS.View)
	if err != nil {
		return err
	}
	return conf.totemObject()
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

func (n *Node) apiJoinInfo() any {
	text, err := n.m.FS.ReadFile("/etc/pve/corosync.conf")
	if err != nil {
		return fmt.Errorf("node is not in a cluster, no join info available!") //nolint:revive,staticcheck // Proxmox's words
	}
	conf, err := ParseConf(string(text))
	if err != nil {
		return err
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
	}
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

const pveshJoinUsage = "pvesh create <api_path> --fingerprint <string> --hostname <string> --password <string> [OPTIONS] [FORMAT_OPTIONS]"

// pveshJoin is the join through the API's own path: the same worker, whose task id comes last.
func (n *Node) pveshJoin(ctx context.Context, p *machine.Proc, args []string) int {
	known := addOptions()
	known["password"], known["output-format"] = option{}, option{}
	o, perr := parseOptions(args, known)
	if perr == nil {
		for _, name := range []string{"hostname", "password", "fingerprint"} {
			if _, given := o.values[name]; !given {
				perr = &paramError{head: "Parameter verification failed.", lines: []string{name + ": property is missing and it is not optional"}}
			}
		}
	}
	if perr != nil {
		fmt.Fprint(p.Stderr, perr.Error(), pveshJoinUsage, "\n")
		return exitNoEntry
	}
	upid := ""
	code := n.task(ctx, p, "clusterjoin", func(ctx context.Context, out io.Writer) error {
		upid = n.newTask("clusterjoin")
		return n.joinByAPI(ctx, p, out, o.values["hostname"], o, o.values["password"], &lineReader{r: p.Stdin})
	})
	if code == 0 {
		p.Println(upid)
	}
	return code
}
