package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
)

//go:embed datacenter.md
var datacenterDoc string

type parts = map[string]config.Scalar

type datacenterArgs struct {
	HA             parts    `hcl:"ha,optional" doc:"What becomes of HA guests when a node shuts down: shutdown_policy (conditional, freeze, failover, migrate)." example:"{ shutdown_policy = \"migrate\" }"`
	Migration      parts    `hcl:"migration,optional" doc:"How guests migrate: type (secure, insecure) and network." example:"{ type = \"secure\", network = \"10.9.0.0/24\" }"`
	Replication    parts    `hcl:"replication,optional" doc:"How copies of guests are sent, as for migration (Proxmox VE 9)."`
	CRS            parts    `hcl:"crs,optional" doc:"How nodes are chosen for HA guests: ha (basic, static, dynamic), ha-rebalance-on-start and more." example:"{ ha = \"static\" }"`
	Fencing        string   `hcl:"fencing,optional" oneof:"watchdog hardware both" doc:"How HA fences nodes."`
	MaxWorkers     int      `hcl:"max_workers,optional" min:"1" doc:"How many guests a node starts, stops or migrates at once."`
	BWLimit        parts    `hcl:"bwlimit,optional" doc:"Limits in KiB/s: clone, default, migration, move, restore." example:"{ migration = 500000 }"`
	NextID         parts    `hcl:"next_id,optional" doc:"The range that new guests' ids are taken from: lower, upper."`
	MACPrefix      string   `hcl:"mac_prefix,optional" doc:"What the hardware addresses of guests begin with." example:"\"BC:24:11\""`
	Keyboard       string   `hcl:"keyboard,optional" doc:"The keyboard of consoles." example:"\"en-us\""`
	Language       string   `hcl:"language,optional" doc:"The language of the web interface."`
	Console        string   `hcl:"console,optional" oneof:"vv html5 xtermjs" doc:"The viewer of consoles."`
	HTTPProxy      string   `hcl:"http_proxy,optional" doc:"The proxy for downloads. It is seen by everybody who may look at processes or at the file."`
	EmailFrom      string   `hcl:"email_from,optional" doc:"The sender of mails."`
	Notify         parts    `hcl:"notify,optional" doc:"When notifications are sent: package-updates, fencing, replication, and target-… of each."`
	TagStyle       parts    `hcl:"tag_style,optional" doc:"How tags are shown: shape, color-map, ordering, case-sensitive."`
	UserTagAccess  parts    `hcl:"user_tag_access,optional" doc:"Which tags users may set: user-allow, user-allow-list."`
	RegisteredTags []string `hcl:"registered_tags,optional" doc:"Tags that only administrators may set."`
	WebAuthn       parts    `hcl:"webauthn,optional" doc:"The relying party of WebAuthn: rp, origin, id, allow-subdomains."`
	U2F            parts    `hcl:"u2f,optional" doc:"The application of U2F: appid, origin."`
	Location       parts    `hcl:"location,optional" doc:"Where the cluster is: latitude, longitude, name (Proxmox VE 9)."`
	Description    string   `hcl:"description,optional" doc:"The notes of the datacenter."`
	ConsentText    string   `hcl:"consent_text,optional" doc:"What users agree to before they log in."`
	Remove         []string `hcl:"remove,optional" doc:"Options that must not be set, by their names in Proxmox VE, and parts of them." example:"[\"http_proxy\", \"migration.network\"]"`
}

// partsByName are the options that have parts, by Proxmox's names.
func (a *datacenterArgs) partsByName() map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, given := range map[string]parts{
		"ha": a.HA, "migration": a.Migration, "replication": a.Replication, "crs": a.CRS, "bwlimit": a.BWLimit, "next-id": a.NextID, "notify": a.Notify,
		"tag-style": a.TagStyle, "user-tag-access": a.UserTagAccess, "webauthn": a.WebAuthn, "u2f": a.U2F, "location": a.Location,
	} {
		for part, value := range given {
			if out[name] == nil {
				out[name] = map[string]string{}
			}
			out[name][part] = string(value)
		}
	}
	return out
}

// plain are the other options, by Proxmox's names.
func (a *datacenterArgs) plain() map[string]string {
	out := map[string]string{
		"fencing": a.Fencing, "mac_prefix": a.MACPrefix, "keyboard": a.Keyboard, "language": a.Language, "console": a.Console, "http_proxy": a.HTTPProxy,
		"email_from": a.EmailFrom, "registered-tags": strings.Join(a.RegisteredTags, ";"), "description": a.Description, "consent-text": a.ConsentText,
	}
	if a.MaxWorkers > 0 {
		out["max_workers"] = strconv.Itoa(a.MaxWorkers)
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// Validate checks what needs no cluster: the parts of options, and the names in remove.
func (a *datacenterArgs) Validate() error {
	wanted, plain := a.partsByName(), a.plain()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		option, _ := pve.FindDatacenterOption(name)
		for _, part := range slices.Sorted(maps.Keys(wanted[name])) {
			if err := option.CheckPart(part, wanted[name][part]); err != nil {
				errs = append(errs, schema.At(strings.ReplaceAll(name, "-", "_"), err))
			}
		}
	}
	for name, value := range plain {
		if name != "description" && strings.ContainsAny(value, "\n\r") {
			errs = append(errs, schema.At(strings.ReplaceAll(name, "-", "_"), errors.New("it has one line")))
		}
	}
	for _, name := range a.Remove {
		option, part, ofPart := strings.Cut(name, ".")
		known, ok := pve.FindDatacenterOption(option)
		_, hasPart := known.Parts[part]
		_, isPlain := plain[option]
		_, isWanted := wanted[option][part]
		switch {
		case !ok:
			errs = append(errs, schema.At("remove", fmt.Errorf("there is no option %q; there are %s", option, strings.Join(pve.DatacenterOptions(), ", "))))
		case ofPart && !hasPart:
			errs = append(errs, schema.At("remove", known.CheckPart(part, "")))
		case !ofPart && (isPlain || wanted[option] != nil), ofPart && isWanted:
			errs = append(errs, schema.At("remove", fmt.Errorf("%s is both wanted and to be removed", name)))
		}
	}
	return errors.Join(errs...)
}

type datacenterOut struct {
	Options map[string]string `hcl:"options" doc:"All options that are set, as they are written."`
}

func datacenter() module.Module {
	return module.Define(module.Spec{
		Name: "datacenter", Summary: "Set options of the whole cluster, each by itself", Doc: datacenterDoc, Scope: module.PerCluster,
	}, module.Funcs[datacenterArgs, datacenterOut]{
		Probes: func(t module.Target, _ datacenterArgs) []module.Probe {
			list := members.Probes(t)
			if len(list) > 0 {
				list = append(list, module.Probe{Host: list[0].Host, Command: pve.ProbeDatacenter()})
			}
			return list
		},
		Plan: planDatacenter,
		Read: func(ctx context.Context, t module.Target, _ datacenterArgs) (datacenterOut, error) {
			v, err := members.Look(ctx, t, datacenterGate)
			if err != nil {
				return datacenterOut{}, err
			}
			have, err := readDatacenter(ctx, t, v.Actors[0])
			return datacenterOut{Options: have}, err
		},
	})
}

const datacenterGate = "options of the datacenter"

func readDatacenter(ctx context.Context, t module.Target, host string) (pve.Datacenter, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	return pve.ReadDatacenter(ctx, host, conn)
}

func planDatacenter(ctx context.Context, t module.Target, a datacenterArgs) ([]module.Change, error) {
	v, err := members.Look(ctx, t, datacenterGate)
	if err != nil {
		return nil, err
	}
	host := v.Actors[0]
	have, err := readDatacenter(ctx, t, host)
	if err != nil {
		return nil, module.Refusals{{Host: host, Gate: datacenterGate, Saw: err.Error(), Want: "a node whose /etc/pve answers", Look: "timeout 5 cat /etc/pve/datacenter.cfg"}}
	}
	diffs := pve.MergeDatacenter(have, a.plain(), a.partsByName(), a.Remove)
	if refusal := tooNew(v.Version(), diffs); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	if len(diffs) == 0 {
		return nil, nil
	}
	before, after, names := map[string]any{}, map[string]any{}, []string(nil)
	for _, d := range diffs {
		names = append(names, d.Option)
		if d.Have != "" {
			before[d.Option] = d.Have
		}
		if d.Want != "" {
			after[d.Option] = d.Want
		}
	}
	return []module.Change{{
		ID: "datacenter/options", Host: host, Action: module.Update, Summary: "set " + strings.Join(names, ", ") + " of the datacenter", Before: before, After: after,
		Predicted: v.Coming, Apply: func(ctx context.Context, t module.Target) error { return setDatacenter(ctx, t, host, a) },
	}}, nil
}

// tooNew refuses options that the cluster's release does not have.
func tooNew(version string, diffs []pve.DatacenterDiff) *module.Refusal {
	major := pve.Major(version)
	for _, d := range diffs {
		if o, _ := pve.FindDatacenterOption(d.Option); d.Want != "" && major != 0 && major < o.Since {
			return &module.Refusal{
				Gate: datacenterGate, Saw: fmt.Sprintf("the nodes run Proxmox VE %d, which has no option %s", major, d.Option), Want: fmt.Sprintf("Proxmox VE %d", o.Since),
				Look: "pveversion", Override: "leave the option out until the upgrade",
			}
		}
	}
	return nil
}

// setDatacenter writes what differs now, and reads it again: what others changed since the plan stays.
func setDatacenter(ctx context.Context, t module.Target, host string, a datacenterArgs) error {
	differ := func() ([]pve.DatacenterDiff, error) {
		have, err := readDatacenter(ctx, t, host)
		if err != nil {
			return nil, err
		}
		return pve.MergeDatacenter(have, a.plain(), a.partsByName(), a.Remove), nil
	}
	diffs, err := differ()
	if err != nil || len(diffs) == 0 {
		return err
	}
	argv, gone := []string{"pvesh", "set", "/cluster/options"}, []string(nil)
	for _, d := range diffs {
		if d.Want == "" {
			gone = append(gone, d.Option)
		} else {
			argv = append(argv, "--"+d.Option, d.Want)
		}
	}
	if len(gone) > 0 {
		argv = append(argv, "--delete", strings.Join(gone, ","))
	}
	if _, err := members.Run(ctx, t, host, "pvesh set /cluster/options", transport.Command{Argv: argv, Timeout: time.Minute}); err != nil {
		return err
	}
	if diffs, err = differ(); err != nil || len(diffs) == 0 {
		return err
	}
	return fmt.Errorf("%s: pvesh succeeded, and %s of the datacenter is %q, wanted %q (look: cat /etc/pve/datacenter.cfg)", host, diffs[0].Option, diffs[0].Have, diffs[0].Want)
}
