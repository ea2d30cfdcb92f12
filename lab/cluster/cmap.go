package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// cmapKey is one entry of corosync's run-time database.
type cmapKey struct{ name, kind, value string }

func (k cmapKey) String() string { return fmt.Sprintf("%s (%s) = %s", k.name, k.kind, k.value) }

// cmap returns the keys of the icmap (or, with stats, of the statistics), sorted.
func (n *Node) cmap(stats bool) ([]cmapKey, bool) {
	_, peers, ok := n.peers()
	if !ok {
		return nil, false
	}
	var keys []cmapKey
	add := func(kind, value, name string, args ...any) {
		keys = append(keys, cmapKey{name: fmt.Sprintf(name, args...), kind: kind, value: value})
	}
	if stats {
		for _, peer := range peers {
			for _, l := range peer.links {
				at := fmt.Sprintf("stats.knet.node%d.link%d.", peer.id, l.number)
				micros := int64(0)
				if l.connected && !peer.local {
					micros = max(1, l.rtt.Microseconds())
				}
				add("u8", fmt.Sprint(flag(l.connected)), "%sconnected", at)
				add("u32", fmt.Sprint(l.downs), "%sdown_count", at)
				add("u8", "1", "%senabled", at)
				add("u32", fmt.Sprint(micros), "%slatency_ave", at)
				add("u32", fmt.Sprint(micros*3/2), "%slatency_max", at)
				add("u32", fmt.Sprint(micros*2/3), "%slatency_min", at)
				add("u32", fmt.Sprint(l.mtu), "%smtu", at)
				add("u32", "1", "%sup_count", at)
			}
		}
	} else {
		n.w.mu.Lock()
		n.icmap(add)
		n.w.mu.Unlock()
	}
	slices.SortFunc(keys, func(a, b cmapKey) int { return strings.Compare(a.name, b.name) })
	return keys, true
}

// icmap adds config and run-time state. The caller holds the lock.
func (n *Node) icmap(add func(kind, value, name string, args ...any)) {
	c := &n.coro
	for i, entry := range c.conf.Nodes() {
		if entry.ID == c.id {
			add("u32", fmt.Sprint(i), "nodelist.local_node_pos")
		}
		add("str", entry.Name, "nodelist.node.%d.name", i)
		add("u32", fmt.Sprint(entry.ID), "nodelist.node.%d.nodeid", i)
		if entry.Votes > 0 {
			add("u32", fmt.Sprint(entry.Votes), "nodelist.node.%d.quorum_votes", i)
		}
		for _, link := range slices.Sorted(maps.Keys(entry.Rings)) {
			add("str", entry.Rings[link], "nodelist.node.%d.ring%d_addr", i, link)
		}
		if slices.Contains(c.members, entry.ID) || c.left[entry.ID] {
			status := "joined"
			if c.left[entry.ID] {
				status = "left"
			}
			ips := ""
			for _, link := range slices.Sorted(maps.Keys(entry.Rings)) {
				ips += fmt.Sprintf("r(%d) ip(%s) ", link, entry.Rings[link])
			}
			add("u64", fmt.Sprint(c.conf.Version()), "runtime.members.%d.config_version", entry.ID)
			add("str", ips, "runtime.members.%d.ip", entry.ID)
			add("u32", fmt.Sprint(max(1, c.joins[entry.ID])), "runtime.members.%d.join_count", entry.ID)
			add("str", status, "runtime.members.%d.status", entry.ID)
		}
	}
	n.icmapTotem(add)
	if d, ok := c.conf.Device(); ok {
		add("str", "net", "quorum.device.model")
		add("str", d.Algorithm, "quorum.device.net.algorithm")
		add("str", d.Host, "quorum.device.net.host")
		add("str", "on", "quorum.device.net.tls")
		add("u32", fmt.Sprint(d.Votes), "quorum.device.votes")
	}
	add("str", "corosync_votequorum", "quorum.provider")
	ids := slices.Clone(c.members)
	add("u32", "0", "runtime.votequorum.atb_type")
	add("u32", fmt.Sprint(c.expected), "runtime.votequorum.ev_barrier")
	add("u32", fmt.Sprint(slices.Max(ids)), "runtime.votequorum.highest_node_id")
	add("u32", fmt.Sprint(slices.Min(ids)), "runtime.votequorum.lowest_node_id")
	add("u32", fmt.Sprint(c.id), "runtime.votequorum.this_node_id")
	add("u8", "0", "runtime.votequorum.two_node")
}

func (n *Node) icmapTotem(add func(kind, value, name string, args ...any)) {
	conf := n.coro.conf
	for _, key := range slices.Sorted(maps.Keys(conf.root.sub("totem").keys)) {
		kind := "str"
		switch key {
		case "version", "token_coefficient", "token":
			kind = "u32"
		case "config_version":
			kind = "u64"
		}
		add(kind, conf.root.sub("totem").keys[key], "totem.%s", key)
	}
	for _, s := range conf.root.sub("totem").subs["interface"] {
		link := s.int("linknumber")
		for _, key := range slices.Sorted(maps.Keys(s.keys)) {
			if key != "linknumber" {
				add("u32", s.keys[key], "totem.interface.%d.%s", link, key)
			}
		}
	}
	token := conf.Token()
	add("u32", fmt.Sprint(token*6/5), "runtime.config.totem.consensus")
	add("u32", fmt.Sprint(token), "runtime.config.totem.token")
	add("u32", fmt.Sprint(token*100/420), "runtime.config.totem.token_retransmit")
	add("u32", "4", "runtime.config.totem.token_retransmits_before_loss_const")
	add("u32", "75", "runtime.config.totem.token_warning")
}

// cmapctl is the program corosync-cmapctl: it prints the keys that begin with one of its arguments.
func (n *Node) cmapctl(_ context.Context, p *machine.Proc) int {
	var prefixes []string
	stats, get := false, false
	args := p.Args()
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-m" && i+1 < len(args):
			i++
			stats = args[i] == "stats"
		case args[i] == "-g":
			get = true
		case strings.HasPrefix(args[i], "-"):
			fmt.Fprintf(p.Stderr, "corosync-cmapctl: invalid option -- '%s'\n", strings.TrimLeft(args[i], "-"))
			return 1
		default:
			prefixes = append(prefixes, args[i])
		}
	}
	keys, ok := n.cmap(stats)
	if !ok {
		fmt.Fprintln(p.Stderr, "Failed to initialize the cmap API. Error CS_ERR_LIBRARY")
		return 1
	}
	found := false
	for _, k := range keys {
		match := len(prefixes) == 0
		for _, prefix := range prefixes {
			match = match || k.name == prefix || !get && strings.HasPrefix(k.name, prefix)
		}
		if match {
			found = true
			p.Println(k.String())
		}
	}
	if get && !found && len(prefixes) > 0 {
		fmt.Fprintf(p.Stderr, "Can't get key %s. Error CS_ERR_NOT_EXIST\n", prefixes[0])
		return 1
	}
	return 0
}
