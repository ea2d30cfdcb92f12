package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed ceph_fs.md
var fsDoc string

type fsSettings struct {
	PGNum         *int          `hcl:"pg_num,optional" min:"8" max:"32768" doc:"Placement groups of the data pool to begin with (default: 32, and 128 without autoscale)."`
	Autoscale     string        `hcl:"autoscale,optional" oneof:"on off warn" doc:"Whether Ceph chooses the number of placement groups of both pools (new file systems: on)."`
	Storage       bool          `hcl:"storage,optional" doc:"Whether Proxmox VE shall have a storage of the same name on it, for backups, ISO images and templates."`
	HealthTimeout time.Duration `hcl:"health_timeout,optional" default:"10m" min:"10s" doc:"How long the file system may take until a metadata server serves it."`
}

type fsArgs struct {
	Name string `hcl:"name,optional" doc:"The file system's name (default: the task's)." example:"\"cephfs\""`
	fsSettings
}

// Validate checks the name.
func (a *fsArgs) Validate() error {
	if a.Name == "" {
		return nil
	}
	return schema.At("name", checkPoolName(a.Name))
}

func cephFS() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_fs", Summary: "Make a CephFS", Doc: fsDoc, Scope: module.PerCluster,
	}, module.Funcs[fsArgs, cephOut]{
		Probes: func(t module.Target, _ fsArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args fsArgs) ([]module.Change, error) {
			name := orDefault(args.Name, t.Task())
			if err := checkPoolName(name); err != nil {
				return nil, err
			}
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			return w.done(t, w.filesystem(name, args.fsSettings))
		},
		Read: func(ctx context.Context, t module.Target, _ fsArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// filesystem plans a CephFS and its storage.
func (w *world) filesystem(name string, s fsSettings) []module.Change {
	gate := "make CephFS " + name
	if !w.answers(gate) {
		return nil
	}
	var changes []module.Change
	if f, there := w.Filesystem(name); there {
		for _, part := range f.Pools() {
			p, _ := w.Map.Pool(part)
			want := ceph.Wanted{Autoscale: s.Autoscale}
			if diff := want.Compare(p, w.Rules); len(diff) > 0 {
				changes = append(changes, w.setPool(part, want, diff))
			}
		}
	} else if !w.will.filesystems[name] {
		c, ok := w.createFS(gate, name, s)
		if !ok {
			return nil
		}
		changes = w.plan([]module.Change{c})
	}
	if s.Storage {
		changes = append(changes, w.fsStorage(name)...)
	}
	return changes
}

func (w *world) createFS(gate, name string, s fsSettings) (module.Change, bool) {
	actor := w.actor()
	if !w.need(actor, gate) || !w.writable(actor, gate) {
		return module.Change{}, false
	}
	standby := len(w.will.mds)
	if w.Answers {
		standby += w.Status.FS.Standby
	}
	if needed := len(w.will.filesystems) + 1; standby < needed {
		w.refuse("", gate, fmt.Sprintf("%d metadata servers stand by", standby), "one that can take the file system, and better one more that stands by then", "ceph fs status", "put ceph_mds before this task, on two nodes")
		return module.Change{}, false
	} else if standby == needed {
		w.warn("", "CephFS %s has one metadata server: while it restarts, the file system stops; make one on a second node", name)
	}
	for _, pool := range []string{name + "_data", name + "_metadata"} {
		if _, there := w.Map.Pool(pool); there {
			w.refuse("", gate, "there is a pool "+pool+" and no file system: a creation was cut off, or the pool is something else's", "neither", "ceph osd pool ls detail; ceph fs ls",
				fmt.Sprintf("if nothing is in them: destroy the pools %s_data and %s_metadata, or finish by ceph fs new %s %s_metadata %s_data; then apply again", name, name, name, name, name))
			return module.Change{}, false
		}
	}
	if s.PGNum == nil && orDefault(s.Autoscale, "on") == "on" {
		s.PGNum = &firstPGs
	}
	argv := []string{"--name", name}
	after := map[string]any{"cephfs": name}
	if s.PGNum != nil {
		argv = append(argv, "--pg_num", strconv.Itoa(*s.PGNum))
		after["pg_num"] = *s.PGNum
	}
	argv = append(argv, "--add-storage", "0")
	return module.Change{
		ID: actor + "/" + kindFS + "/" + name, Host: actor, Action: module.Create, Summary: gate, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return makeFS(ctx, t, actor, name, argv, s) },
	}, true
}

// fsScript makes a CephFS and lets its pools scale, which pveceph has no option for: in one job, so that the second half is
// done although nobody is there any more to ask for it.
const fsScript = `# make a CephFS
cd / || exit 1
name=$1; mode=$2; shift 2
pveceph fs create "$@"; rc=$?
for pool in "${name}_data" "${name}_metadata"; do
	pveceph pool set "$pool" --pg_autoscale_mode "$mode" >/dev/null 2>&1
done
exit "$rc"`

// makeFS makes a CephFS. Like a pool's, its creation exits 0 when it failed.
func makeFS(ctx context.Context, t module.Target, actor, name string, argv []string, s fsSettings) error {
	var printed string
	want := ceph.Wanted{Autoscale: orDefault(s.Autoscale, "on")}
	job := module.Job{Name: "ceph-fs-" + name, Timeout: daemonTimeout, Command: transport.Command{Script: fsScript, Argv: append([]string{name, want.Autoscale}, argv...), Mutates: true}}
	failed := patiently(ctx, t, func() error {
		r, err := t.Detach(ctx, actor, job)
		if err == nil {
			if printed = lastWords(string(r.Stdout), string(r.Stderr)); locked(errors.New(printed)) {
				err = errors.New(printed)
			}
		}
		return err
	})
	c, err := readCluster(ctx, t, actor)
	if err != nil {
		return errors.Join(failed, err)
	}
	f, there := c.Filesystem(name)
	if !there {
		if failed != nil {
			printed = failed.Error()
		}
		return fmt.Errorf("%s: pveceph fs create: there is no CephFS %s afterwards: %s (look: ceph fs ls)", actor, name, printed)
	}
	for _, part := range f.Pools() {
		if p, _ := c.Map.Pool(part); len(want.Compare(p, nil)) > 0 {
			if err := applySettings(ctx, t, actor, part, []string{"pveceph", "pool", "set", part, "--pg_autoscale_mode", want.Autoscale}, want); err != nil {
				return err
			}
		}
	}
	return await(ctx, t, "a metadata server serves CephFS "+name, actor, s.HealthTimeout, func(c *ceph.Cluster) string {
		active := 0
		for _, r := range c.Status.FS.ByRank {
			if r.Status == "up:active" {
				active++
			}
		}
		if active < len(c.Filesystems) {
			return fmt.Sprintf("%d of %d file systems have an active metadata server (look: ceph fs status)", active, len(c.Filesystems))
		}
		return c.Status.Serving()
	})
}
