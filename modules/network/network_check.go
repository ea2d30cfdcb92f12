package network

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

//go:embed network_check.md
var networkCheckDoc string

type networkCheckArgs struct {
	Duration time.Duration `hcl:"duration,optional" default:"10s" min:"1s" max:"10m" doc:"How long the links are measured."`
	Links    []int         `hcl:"links,optional" each_min:"0" each_max:"7" doc:"The numbers of the links that are measured (default: all of the inventory)." example:"[0, 1]"`
	MaxRTT   time.Duration `hcl:"max_rtt,optional" default:"5ms" min:"0s" doc:"Average round trip time from which to refuse."`
	WarnRTT  time.Duration `hcl:"warn_rtt,optional" default:"2ms" min:"0s" doc:"Average round trip time from which to warn."`
	MaxLoss  float64       `hcl:"max_loss,optional" default:"0" min:"0" max:"100" doc:"How many packets of a hundred may be lost."`
	MTU      int           `hcl:"mtu,optional" min:"576" max:"65536" doc:"The size of packets that must pass whole (default: that of each interface)."`
	MinSpeed int           `hcl:"min_speed,optional" min:"0" doc:"The least speed of each card of a bond, in Mbit/s." example:"10000"`
	Bonds    []bondArgs    `hcl:"bond,block" doc:"Bonds that every node must have."`
}

type bondArgs struct {
	Name    string   `hcl:"name,label" doc:"Its name."`
	Mode    string   `hcl:"mode" doc:"The mode, as the kernel calls it." oneof:"balance-rr active-backup balance-xor broadcast 802.3ad balance-tlb balance-alb"`
	Members []string `hcl:"members,optional" doc:"The network cards in it (default: any, two at least)." example:"[\"eno1\", \"eno2\"]"`
}

// Validate checks what belongs together.
func (a *networkCheckArgs) Validate() error {
	if a.WarnRTT > a.MaxRTT {
		return schema.At("warn_rtt", errors.New("it is more than max_rtt"))
	}
	return nil
}

func (a *networkCheckArgs) wants(link int) bool {
	return len(a.Links) == 0 || slices.Contains(a.Links, link)
}

type networkCheckOut struct {
	Links    []string `hcl:"links" doc:"What was measured between each two nodes, one line each."`
	WorstRTT float64  `hcl:"worst_rtt_ms" doc:"The longest average round trip, in milliseconds."`
	Lost     int      `hcl:"lost" doc:"How many packets were lost."`
	Bonds    []string `hcl:"bonds" doc:"The bonds with their state, one line each."`
}

func networkCheck() module.Module {
	return module.Define(module.Spec{
		Name: "network_check", Summary: "Measure the links between the nodes for a while, and check bonds and MTU, without changing anything", Doc: networkCheckDoc, Scope: module.PerCluster,
	}, module.Funcs[networkCheckArgs, networkCheckOut]{
		Probes: func(t module.Target, _ networkCheckArgs) []module.Probe {
			var list []module.Probe
			if t.Cluster() != nil {
				for _, name := range t.Cluster().Nodes {
					list = append(list, module.Probe{Host: name, Command: pve.ProbeNode(pve.Options{})})
				}
			}
			return list
		},
		Plan: func(ctx context.Context, t module.Target, args networkCheckArgs) ([]module.Change, error) {
			return nil, planCheck(ctx, t, args)
		},
		Read: readCheck,
	})
}

// readDuration is how long the links are measured for the outputs: the judgement has been made by then.
const readDuration = 2 * time.Second

func readCheck(ctx context.Context, t module.Target, args networkCheckArgs) (networkCheckOut, error) {
	args.Duration = min(args.Duration, readDuration)
	out := networkCheckOut{Links: []string{}, Bonds: []string{}}
	v, err := measure(ctx, t, args)
	if err != nil {
		return out, err
	}
	for _, r := range v.reports {
		for _, a := range r.pings {
			out.Links = append(out.Links, fmt.Sprintf("%s to %s on link %d: %s (longest %s), %d of %d lost", r.host, a.to, a.link, a.ping.Average, a.ping.Max, a.ping.Sent-a.ping.Received, a.ping.Sent))
			out.WorstRTT = max(out.WorstRTT, float64(a.ping.Average)/float64(time.Millisecond))
			out.Lost += a.ping.Sent - a.ping.Received
		}
		for _, b := range r.bonds {
			out.Bonds = append(out.Bonds, fmt.Sprintf("%s %s: %s", r.host, b.Name, describe(b)))
		}
	}
	return out, nil
}

func describe(b pve.Bond) string {
	members := make([]string, len(b.Members))
	for i, m := range b.Members {
		members[i] = m.Name + " down"
		if m.Up {
			members[i] = fmt.Sprintf("%s %d Mbit/s", m.Name, m.Speed)
		}
	}
	return b.Mode + ", " + strings.Join(members, ", ")
}

var errNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)

func planCheck(ctx context.Context, t module.Target, args networkCheckArgs) error {
	v, err := measure(ctx, t, args)
	if err != nil {
		return err
	}
	var refusals module.Refusals
	for _, p := range v.judge(args) {
		if p.warn {
			t.Warn(p.host, p.saw)
			continue
		}
		refusals = append(refusals, &module.Refusal{Host: p.host, Gate: "network check", Saw: p.saw, Want: p.want, Look: p.look, Override: p.override})
	}
	if len(refusals) > 0 {
		return refusals
	}
	return nil
}

// measure asks all nodes at once, one round trip for each beside the read of their states.
func measure(ctx context.Context, t module.Target, args networkCheckArgs) (*networkView, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	v := &networkView{wanted: pve.WantedCluster(t.Cluster(), t.Site())}
	v.states = pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{}, t.Conn)
	var errs []error
	for _, s := range v.states {
		errs = append(errs, s.Err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	asked := v.questions(args)
	v.reports = make([]report, len(v.states))
	failed := make([]error, len(v.states))
	p := pool.New().WithMaxGoroutines(64)
	for i, s := range v.states {
		p.Go(func() {
			out, err := ask(ctx, t, s.Host, asked[s.Host], args.Duration)
			v.reports[i], failed[i] = parseReport(s.Host, asked[s.Host], out), err
		})
	}
	p.Wait()
	return v, errors.Join(failed...)
}

func ask(ctx context.Context, t module.Target, host string, qs []question, duration time.Duration) (string, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return "", err
	}
	const every = 200 * time.Millisecond
	count := max(5, int(duration/every))
	var lines strings.Builder
	for _, q := range qs {
		fmt.Fprintf(&lines, "%s %s %s %d\n", q.kind, q.own, q.peer, q.size)
	}
	r, err := conn.Run(ctx, transport.Command{
		Script: measureScript, Argv: []string{fmt.Sprint(count), "0.2"}, Stdin: []byte(lines.String()), Timeout: duration + 45*time.Second, Own: true,
	})
	if err != nil {
		return "", fmt.Errorf("%s: measure the network: %w", host, err)
	}
	return r.Out(), nil
}

// measureScript reads corosync's counters, the bonds and the cards' duplex, answers lines "ping OWN PEER 0" and
// "mtu OWN PEER SIZE" all at once, and reads the counters again. $1 is how many packets are sent, $2 the seconds between
// them.
const measureScript = `# measure the network for a while
counters() { corosync-cmapctl -m stats 2>/dev/null | grep -E '^stats\.knet\.node[0-9]+\.link[0-9]+\.(connected|down_count|tx_total_errors) ' | sed "s/^/$1 /"; }
counters before
for f in /proc/net/bonding/*; do
	if [ -f "$f" ]; then sed "s/^/bond ${f##*/} /" "$f"; fi
done
for f in /sys/class/net/*/duplex; do
	if [ -f "$f" ]; then n=${f%/duplex}; echo "card ${n##*/} $(cat "$f" 2>/dev/null)"; fi
done
while read -r kind own peer size; do
	case $kind in
	ping) { r=$(ping -n -q -c "$1" -i "$2" -W 1 -I "$own" "$peer" 2>&1 | tr '\n' ' '); echo "ping $own $peer $r"; } & ;;
	mtu) { r=$(ping -n -q -c 2 -i 0.2 -W 1 -M do -s "$size" -I "$own" "$peer" 2>&1 | tr '\n' ' '); echo "mtu $own $peer $r"; } & ;;
	esac
done
wait
counters after
`
