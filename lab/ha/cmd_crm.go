package ha

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// managed refuses resources that the HA manager does not look after, ignored ones among them.
func (c *call) managed() (sid string, err error) {
	sid, kind, id, err := c.sid()
	if err != nil {
		return "", err
	}
	sections, _, err := c.sections(resourcesFile)
	if err != nil {
		return "", err
	}
	if at := index(sections, kind, id); at < 0 || sections[at].Values["state"] == wantIgnored {
		return "", refuse(pvetool.ExitDie, "resource '%s' is not HA managed", sid)
	}
	return sid, c.checkState(sid)
}

// motion is what a request to move a resource brings about by the rules.
type motion struct {
	sid, node string
	blocking  []string
	together  []string
}

// requestMove queues a migration or relocation. Rules are asked afterwards: a conflict is an error although the command
// stands in the queue (reference §5.5).
func (c *call) requestMove(ctx context.Context, task string) (*motion, error) {
	sid, err := c.managed()
	if err != nil {
		return nil, err
	}
	m := &motion{sid: sid, node: c.value("node")}
	if featuresOf(c.stack.node.Release()).rules {
		c.ask(m)
	}
	return m, c.queue(ctx, fmt.Sprintf("%s %s %s", task, sid, m.node))
}

// ask finds the resources that are in the way or go along.
func (c *call) ask(m *motion) {
	config, err := readConfig(c.view)
	if err != nil {
		return
	}
	status, err := readManagerStatus(c.view)
	if err != nil {
		return
	}
	rules, _ := withGroups(config.rules, config.groups, config.conf)
	var nodes []string
	for node := range status.Nodes {
		nodes = append(nodes, node)
	}
	placed, _ := compile(rules, nodes)
	for _, other := range placed.apart[m.sid] {
		if s := status.Services[other]; s != nil && (s.Node == m.node || s.Target == m.node) {
			m.blocking = append(m.blocking, other)
		}
	}
	for _, other := range placed.together[m.sid] {
		if s := status.Services[other]; s != nil && s.Node != m.node && s.Target != m.node {
			m.together = append(m.together, other)
		}
	}
	slices.Sort(m.blocking)
	slices.Sort(m.together)
}

// move is `ha-manager crm-command migrate` and relocate.
func (c *call) move(ctx context.Context, task string) error {
	m, err := c.requestMove(ctx, task)
	if err != nil {
		return err
	}
	if len(m.blocking) > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "cannot %s resource '%s' to node '%s':\n\n", task, m.sid, m.node)
		for _, other := range m.blocking {
			fmt.Fprintf(&b, "- resource '%s' on target node '%s' in negative affinity with resource '%s'\n", other, m.node, m.sid)
		}
		return refuse(pvetool.ExitDie, "%s", strings.TrimSuffix(b.String(), "\n"))
	}
	for _, other := range m.together {
		c.proc.Printf("also %s resource '%s' in positive affinity with resource '%s' to target node '%s'\n", task, other, m.sid, m.node)
	}
	return nil
}

// stop is `ha-manager crm-command stop`.
func (c *call) stop(ctx context.Context) error {
	sid, err := c.managed()
	if err != nil {
		return err
	}
	return c.queue(ctx, fmt.Sprintf("stop %s %s", sid, c.value("timeout")))
}

// maintenance is `ha-manager crm-command node-maintenance`. Whether the node can go is for the master to judge.
func (c *call) maintenance(ctx context.Context, word string) error {
	node := c.value("node")
	if !slices.Contains(append(c.stack.node.Members(), c.stack.node.Name()), node) {
		return refuse(pvetool.ExitDie, "no such cluster node '%s'", node)
	}
	return c.queue(ctx, word+"-node-maintenance "+node)
}
