package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

// lock is how long apt waits for dpkg's lock.
const lock = "DPkg::Lock::Timeout=300"

// The defaults of the room that an upgrade wants, in MiB (reference §7.6).
const mib = 1 << 20

func packageProbes(t module.Target) []module.Probe {
	return []module.Probe{{Host: t.Host().Name, Command: packages.Probe()}}
}

// readPackages reads what the host says about its packages.
func readPackages(ctx context.Context, t module.Target) (packages.State, error) {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return packages.State{}, err
	}
	r, err := conn.Run(ctx, packages.Probe())
	if err != nil {
		return packages.State{}, err
	}
	return packages.Read(r.Stdout)
}

// refused turns objections into refusals.
func refused(host, gate string, list packages.Objections) module.Refusals {
	out := make(module.Refusals, len(list))
	for i, o := range list {
		out[i] = &module.Refusal{Host: host, Gate: gate, Saw: o.Saw, Want: o.Want, Look: o.Look, Override: o.Override}
	}
	return out
}

// asError is nil without refusals.
func asError(rs module.Refusals) error {
	if len(rs) == 0 {
		return nil
	}
	return rs
}

// plannedBy finds a module among the earlier tasks of the plan that would change the host.
func plannedBy(t module.Target, modules ...string) string {
	for _, p := range t.Planned() {
		if p.Host == t.Host().Name && slices.Contains(modules, p.Module) {
			return p.Module
		}
	}
	return ""
}

// old says how old package lists are, for people.
func old(age time.Duration) string {
	switch {
	case age > 1000*24*time.Hour:
		return "older than the last change of the repositories"
	case age > 48*time.Hour:
		return fmt.Sprintf("%d days old", int(age.Hours()/24))
	case age > 2*time.Hour:
		return fmt.Sprintf("%d hours old", int(age.Hours()))
	}
	return fmt.Sprintf("%d minutes old", int(age.Minutes()))
}

// refreshLists runs apt-get update. A repository that refuses, or that cannot be reached, is a refusal: what it has is not known,
// and an upgrade from half of the repositories is none.
func refreshLists(ctx context.Context, t module.Target, host, gate string) error {
	r, err := apt.Refresh(ctx, t, host)
	if err != nil {
		if uris := unauthorized(string(r.Stdout) + "\n" + string(r.Stderr)); len(uris) > 0 {
			return &module.Refusal{
				Host: host, Gate: gate, Saw: "401 Unauthorized from " + strings.Join(uris, ", ") + ": the node has no valid subscription for it",
				Want: "repositories that answer", Look: "apt-get update; pvesubscription get",
				Override: "none; enter a subscription, or enable repositories that need none with the module repository: " + free(uris),
			}
		}
		return fmt.Errorf("refresh the package lists: %w", err)
	}
	lost := apt.Unfetched(r)
	if len(lost) == 0 {
		return nil
	}
	if err := apt.Mark(ctx, t, host, false); err != nil {
		return err
	}
	return &module.Refusal{
		Host: host, Gate: gate, Saw: "apt-get update says: " + strings.Join(lost, "; "), Want: "every enabled repository read",
		Look: "apt-get update", Override: "none; switch a repository off that is gone for good, or wait until it answers",
	}
}

// free are the arguments of the module repository that enable what needs no subscription.
func free(uris []string) string {
	var args []string
	for _, uri := range uris {
		name := uri[strings.LastIndexByte(uri, '/')+1:]
		if release, ok := strings.CutPrefix(name, "ceph-"); ok {
			args = append(args, fmt.Sprintf(`ceph = "no-subscription", ceph_release = %q`, release))
		} else {
			args = append(args, `pve = "no-subscription"`)
		}
	}
	return strings.Join(args, ", ")
}

// unauthorized are the repositories that answered 401.
func unauthorized(out string) []string {
	var uris []string
	for line := range strings.Lines(out) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "E: Failed to fetch ")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 || f[1] != "401" {
			continue
		}
		uri, _, _ := strings.Cut(f[0], "/dists/")
		if !slices.Contains(uris, uri) {
			uris = append(uris, uri)
		}
	}
	return uris
}

// versions are the packages of a simulation, before and after, for a plan.
func versions(s packages.Simulation) (before, after map[string]any) {
	before, after = map[string]any{}, map[string]any{}
	for _, c := range slices.Concat(s.Installs, s.Removes) {
		before[c.Name], after[c.Name] = orNone(c.From), orNone(c.To)
	}
	return before, after
}

func orNone(version string) any {
	if version == "" {
		return nil
	}
	return version
}
