package lua

import "context"

// clusterObject is the cluster in a script.
type clusterObject struct{ Cluster }

// Class is that of clusters.
func (clusterObject) Class() string { return "cluster" }

// String is its name.
func (c clusterObject) String() string { return c.Name() }

// The fields of what a cluster tells.
var (
	voteFields = []Param{
		{Name: "quorate", Type: typeBool, Doc: "whether the cluster has quorum"},
		{Name: "total", Type: typeNumber, Doc: "the votes that are cast"},
		{Name: "expected", Type: typeNumber, Doc: "the votes that there are"},
		{Name: "needed", Type: typeNumber, Doc: "the votes that quorum needs"},
		{Name: "bearable", Type: typeNumber, Doc: "how many more nodes may fail, whichever they are; -1 without quorum"},
	}
	guestFields = []Param{
		{Name: "id", Type: typeNumber, Doc: "its number"},
		{Name: "kind", Type: typeText, Doc: "\"vm\" or \"ct\""},
		{Name: "name", Type: typeText, Doc: "its name"},
		{Name: "node", Type: typeText, Doc: "the node that it belongs to now"},
		{Name: "status", Type: typeText, Doc: "\"running\", \"stopped\", …, up to 10 s old; empty when the cluster has not heard of it for five minutes"},
		{Name: "tags", Type: typeTexts, Doc: "its tags"},
		{Name: "pool", Type: typeText, Doc: "its pool; empty if none"},
		{Name: "lock", Type: typeText, Doc: "what holds it, such as \"backup\"; empty if nothing"},
		{Name: "template", Type: typeBool, Doc: "whether it is a template"},
		{Name: "ha", Type: typeBool, Doc: "whether the HA manager manages it"},
		{Name: "memory", Type: typeNumber, Doc: "its memory, in bytes"},
		{Name: "cores", Type: typeNumber, Doc: "its virtual processors"},
	}
	cephFields = []Param{
		{Name: "health", Type: typeText, Doc: "\"HEALTH_OK\", \"HEALTH_WARN\", \"HEALTH_ERR\", or \"unknown\""},
		{Name: "checks", Type: typeTexts, Doc: "what it complains of"},
		{Name: "mons", Type: typeNumber, Doc: "monitors"},
		{Name: "mons_in_quorum", Type: typeNumber, Doc: "monitors in quorum"},
		{Name: "osds", Type: typeNumber, Doc: "OSDs"},
		{Name: "osds_up", Type: typeNumber, Doc: "OSDs that are up"},
		{Name: "osds_in", Type: typeNumber, Doc: "OSDs that are in"},
		{Name: "pgs", Type: typeNumber, Doc: "placement groups"},
		{Name: "pgs_not_clean", Type: typeText, Doc: "those that are not active+clean, by state; empty if all are"},
		{Name: "total", Type: typeNumber, Doc: "the room of all OSDs, in bytes"},
		{Name: "used", Type: typeNumber, Doc: "what is used of it, in bytes"},
	}
	haFields = []Param{
		{Name: "master", Type: typeText, Doc: "the node whose HA manager decides"},
		{Name: "resources", Type: typeNumber, Doc: "how many resources there are"},
		{Name: "states", Type: typeTable, Doc: "how many services are in each state"},
		{Name: "maintenance", Type: typeTexts, Doc: "nodes in maintenance"},
		{Name: "age", Type: typeNumber, Doc: "how long ago the HA manager wrote this, in seconds"},
	}
	nodeFields = []Param{
		{Name: "name", Type: typeText, Doc: "its name"},
		{Name: "online", Type: typeBool, Doc: "whether the others see it"},
		{Name: "quorate", Type: typeBool, Doc: "whether it has quorum"},
		{Name: "version", Type: typeText, Doc: "its version of Proxmox VE; empty if it did not answer"},
		{Name: "kernel", Type: typeText, Doc: "the kernel that runs"},
		{Name: "votes", Type: typeNumber, Doc: "its votes"},
		{Name: "guests", Type: typeNumber, Doc: "how many guests are on it"},
		{Name: "error", Type: typeText, Doc: "why it could not be read; empty if it could"},
	}
	findingFields = []Param{
		{Name: "severity", Type: typeText, Doc: "\"critical\", \"warning\" or \"info\""},
		{Name: "node", Type: typeText, Doc: "the node; empty if it is about the cluster"},
		{Name: "check", Type: typeText, Doc: "its short name"},
		{Name: "saw", Type: typeText, Doc: "what was seen"},
		{Name: "remedy", Type: typeText, Doc: "what to do about it"},
	}
)

func clusterClass() Class {
	method := func(name, doc, kind string, returns Param, get func(ctx context.Context, c Cluster) (Value, error)) Func {
		returns.Name, returns.Type = name, kind
		return Func{
			Name: name, Doc: doc, Returns: []Param{returns}, Errors: "no node can tell", Example: "local " + name + " = cluster():" + name + "()",
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				v, err := get(ctx, args[0].(clusterObject).Cluster)
				return []Value{v}, err
			},
		}
	}
	maybe := func(m map[string]Value, err error) (Value, error) {
		if m == nil || err != nil {
			return nil, err
		}
		return m, nil
	}
	return Class{
		Name: "cluster", Doc: "The cluster of the run. Its methods read it anew each time.",
		Fields: []Field{{Param{Name: "name", Type: typeText, Doc: "its name"}, func(o Object) Value { return o.(clusterObject).Name() }}},
		Methods: []Func{
			method("votes", "The votes and the quorum.", typeTable, Param{Doc: "the votes", Fields: voteFields},
				func(ctx context.Context, c Cluster) (Value, error) { return maybe(c.Votes(ctx)) }),
			method("guests", "All virtual machines and containers, by number.", "table[]", Param{Doc: "the guests", Fields: guestFields},
				func(ctx context.Context, c Cluster) (Value, error) {
					guests, err := c.Guests(ctx)
					return asValues(guests), err
				}),
			method("ceph", "What Ceph says of itself; nil where there is none.", typeTable, Param{Optional: true, Doc: "its state", Fields: cephFields},
				func(ctx context.Context, c Cluster) (Value, error) { return maybe(c.Ceph(ctx)) }),
			method("ha", "The HA manager; nil where nothing is managed.", typeTable, Param{Optional: true, Doc: "its state", Fields: haFields},
				func(ctx context.Context, c Cluster) (Value, error) { return maybe(c.HA(ctx)) }),
			method("snapshot", "Everything at one time, as `pxrun status` judges it.", typeTable, Param{Doc: "the cluster", Fields: []Param{
				{Name: "votes", Type: typeTable, Doc: "as of cluster:votes", Fields: voteFields},
				{Name: "nodes", Type: "table[]", Doc: "its nodes", Fields: nodeFields},
				{Name: "ceph", Type: typeTable, Optional: true, Doc: "as of cluster:ceph", Fields: cephFields},
				{Name: "ha", Type: typeTable, Optional: true, Doc: "as of cluster:ha", Fields: haFields},
				{Name: "findings", Type: "table[]", Doc: "what is not as it should be, the worst first", Fields: findingFields},
			}}, func(ctx context.Context, c Cluster) (Value, error) { return maybe(c.Snapshot(ctx)) }),
		},
	}
}

func asValues(list []map[string]Value) []Value {
	values := make([]Value, len(list))
	for i, m := range list {
		values[i] = m
	}
	return values
}
