package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

//go:embed repository.md
var repositoryDoc string

type repositoryArgs struct {
	PVE         string `hcl:"pve,optional" doc:"Which repository of Proxmox VE is enabled; the others are switched off (default: they are left alone)." oneof:"enterprise no-subscription test"`
	Ceph        string `hcl:"ceph,optional" doc:"Which repository of Ceph is enabled; the others are switched off (default: they are left alone)." oneof:"enterprise no-subscription test"`
	CephRelease string `hcl:"ceph_release,optional" doc:"The release of Ceph: squid, tentacle and so on." example:"\"squid\""`
	Update      bool   `hcl:"update,optional" doc:"Whether the package lists are refreshed when the repositories are newer, which proves that they can be read." default:"true"`
}

// Validate checks what belongs together.
func (a repositoryArgs) Validate() error {
	switch {
	case a.PVE == "" && a.Ceph == "":
		return errors.New("give pve, ceph or both")
	case a.Ceph != "" && a.CephRelease == "":
		return schema.At("ceph_release", errors.New("Ceph's repositories are one for each release: say which"))
	case a.Ceph == "" && a.CephRelease != "":
		return schema.At("ceph_release", errors.New("it belongs to ceph"))
	case strings.Trim(a.CephRelease, "abcdefghijklmnopqrstuvwxyz") != "":
		return schema.At("ceph_release", fmt.Errorf("%q is no name of a release", a.CephRelease))
	}
	return nil
}

type repositoryOut struct {
	Subscription string   `hcl:"subscription" doc:"The state of the node's subscription: active, notfound, invalid, expired."`
	Enabled      []string `hcl:"enabled" doc:"The repositories of Proxmox that are enabled: URI, suite and component."`
}

func newRepository() module.Module {
	return module.Define(module.Spec{
		Name: "repository", Summary: "Choose the repositories of Proxmox VE and Ceph, and prove that they can be read", Doc: repositoryDoc,
	}, module.Funcs[repositoryArgs, repositoryOut]{
		Probes: func(t module.Target, _ repositoryArgs) []module.Probe { return probesOf(t, repositoryProbe()) },
		Plan:   planRepository,
		Read:   readRepository,
	})
}

// repositoryScript reads apt's sources and what decides about them, in one round trip.
var repositoryScript = frame.Script(
	frame.Read{Name: "os", Seconds: 5, Command: `cat /etc/os-release`},
	frame.Read{Name: "files", Seconds: 10, Command: `sh -c 'for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do if [ -f "$f" ]; then grep -H "" "$f"; fi; done; true'`},
	frame.Read{Name: "packages", Seconds: 10, Command: `dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' pve-manager ceph-mon ceph-osd ceph-mgr ceph-mds`},
	frame.Read{Name: "subscription", Seconds: 20, Command: `sh -c 'if [ -e /etc/subscription ]; then pvesubscription get; else echo "status: notfound"; fi'`},
	frame.Read{Name: "stale", Seconds: 10, Command: `sh -c 'l=$(stat -c %Y /var/lib/apt/lists || echo 0); c=$(stat -c %Y /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/sources.list.d/* 2>/dev/null | sort -n | tail -n 1); if [ "${c:-0}" -gt "$l" ]; then echo yes; else echo no; fi'`},
)

func repositoryProbe() transport.Command {
	return transport.Command{Script: repositoryScript, Timeout: 45 * time.Second}
}

// repositoryState is what a host says about its repositories.
type repositoryState struct {
	codename     string
	files        pve.SourceFiles
	packages     map[string]string
	subscription string
	stale        bool // the sources are newer than the lists
}

func readRepositories(ctx context.Context, t module.Target) (repositoryState, error) {
	r, err := run(ctx, t, repositoryProbe())
	if err != nil {
		return repositoryState{}, fmt.Errorf("look at the repositories: %w", err)
	}
	return parseRepositories(r.Stdout)
}

func parseRepositories(out []byte) (repositoryState, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return repositoryState{}, fmt.Errorf("look at the repositories: %w", err)
	}
	for _, name := range []string{"os", "files", "stale"} {
		if frames[name].RC != 0 {
			return repositoryState{}, fmt.Errorf("look at the repositories: the read of %q failed: %s", name, oneLine(string(frames[name].Text)))
		}
	}
	s := repositoryState{
		codename: pve.ParseOSRelease(frames["os"].Text).Codename, files: pve.ParseSourceFiles(frames["files"].Text),
		packages: pve.ParsePackages(frames["packages"].Text), subscription: "unknown", stale: strings.TrimSpace(string(frames["stale"].Text)) == "yes",
	}
	for line := range strings.Lines(string(frames["subscription"].Text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "status:"); ok && frames["subscription"].RC == 0 {
			s.subscription = strings.ToLower(strings.TrimSpace(value))
		}
	}
	return s, nil
}

func readRepository(ctx context.Context, t module.Target, _ repositoryArgs) (repositoryOut, error) {
	s, err := readRepositories(ctx, t)
	if err != nil {
		return repositoryOut{}, err
	}
	out := repositoryOut{Subscription: s.subscription, Enabled: []string{}}
	for _, e := range s.files.Sources() {
		if e.Enabled && e.Product() != "" && e.Product() != "debian" {
			out.Enabled = append(out.Enabled, strings.Join(slices.Concat(e.URIs, e.Suites, e.Components), " "))
		}
	}
	return out, nil
}

// wishes are what the arguments ask for on this host.
func (a repositoryArgs) wishes(s repositoryState) []pve.RepoWish {
	major := pve.Major(s.packages["pve-manager"])
	var wishes []pve.RepoWish
	if a.PVE != "" {
		wishes = append(wishes, pve.RepoWish{Product: "pve", Kind: a.PVE, Codename: s.codename, Major: major})
	}
	if a.Ceph != "" {
		wishes = append(wishes, pve.RepoWish{Product: "ceph-" + a.CephRelease, Kind: a.Ceph, Codename: s.codename, Major: major})
	}
	return wishes
}

// refuse is about what would end in a broken or half-way upgraded node.
func (a repositoryArgs) refuse(host string, s repositoryState) module.Refusals {
	var out module.Refusals
	add := func(saw, want, look, override string) {
		out = append(out, &module.Refusal{Host: host, Gate: "choose the repositories", Saw: saw, Want: want, Look: look, Override: override})
	}
	major := pve.Major(s.packages["pve-manager"])
	want := map[int]string{8: "bookworm", 9: "trixie"}[major]
	switch {
	case major == 0:
		add("Proxmox VE is not installed", "a Proxmox VE node", "dpkg-query -W pve-manager", "")
		return out
	case want == "" || s.codename != want:
		add(fmt.Sprintf("Proxmox VE %d on Debian %s", major, strconv.Quote(s.codename)), "8 on bookworm or 9 on trixie", "pveversion; cat /etc/os-release", "")
		return out
	}
	for _, e := range s.files.Sources() {
		if suite := e.WrongSuite(s.codename); suite != "" {
			add(fmt.Sprintf("%s has %s enabled with the suite %s", e.File, strings.Join(e.URIs, " "), suite), "the suites of "+s.codename+" only: any other crosses releases at the next upgrade", "cat "+e.File, "change or switch off that entry; a change of release is a matter of its own")
		}
	}
	if (a.PVE == pve.RepoEnterprise || a.Ceph == pve.RepoEnterprise) && s.subscription != "active" {
		add("the subscription is "+s.subscription, "an active one: without it the enterprise repositories answer 401 and apt-get update fails", "pvesubscription get", `pvesubscription set KEY, or "no-subscription"`)
	}
	if offered := ceph.Offered(major); a.Ceph != "" && !slices.Contains(offered, a.CephRelease) {
		add(fmt.Sprintf("ceph_release is %q", a.CephRelease), fmt.Sprintf("one that Proxmox VE %d has: %s", major, strings.Join(offered, ", ")), "", "mend ceph_release")
	}
	for _, name := range []string{"ceph-mon", "ceph-osd", "ceph-mgr", "ceph-mds"} {
		if have := ceph.ReleaseOf(s.packages[name]); a.Ceph != "" && have != "" && have != a.CephRelease {
			add(fmt.Sprintf("%s %s is installed, which is %s", name, s.packages[name], have), "the repository of the release that is installed", "dpkg-query -W ceph-mon ceph-osd", "a new release of Ceph is an upgrade of its own")
			break
		}
	}
	return out
}

func planRepository(ctx context.Context, t module.Target, a repositoryArgs) ([]module.Change, error) {
	s, err := readRepositories(ctx, t)
	if err != nil {
		return nil, err
	}
	host := t.Host().Name
	if refusals := a.refuse(host, s); len(refusals) > 0 {
		return nil, refusals
	}
	for _, e := range s.files.Sources() {
		if e.Enabled && s.subscription != "active" && slices.ContainsFunc(e.URIs, func(u string) bool { return strings.Contains(u, "enterprise.proxmox.com") }) && !a.settles(e) {
			t.Warn(host, fmt.Sprintf("%s has an enterprise repository enabled and the subscription is %s: apt-get update will fail", e.File, s.subscription))
		}
	}
	after := pve.SourceFiles{}
	for path, text := range s.files {
		after[path] = text
	}
	for _, w := range a.wishes(s) {
		for path, text := range w.Apply(after) {
			after[path] = text
		}
	}
	changes := fileChanges(host, s.files, after)
	if a.Update && (len(changes) > 0 || s.stale) {
		changes = append(changes, module.Change{
			ID: host + "/update", Host: host, Action: module.Update, Summary: "refresh the package lists",
			Apply: refreshAndProve,
		})
	}
	return changes, nil
}

// settles reports whether the task decides about an entry.
func (a repositoryArgs) settles(e pve.Source) bool {
	return a.PVE != "" && e.Product() == "pve" || a.Ceph != "" && strings.HasPrefix(e.Product(), "ceph-")
}

func fileChanges(host string, before, after pve.SourceFiles) []module.Change {
	var changes []module.Change
	for _, path := range sortedPaths(after) {
		old, there := before[path]
		text := after[path]
		if old == text {
			continue
		}
		c := module.Change{
			ID: host + path, Host: host, Action: module.Update, Summary: "change " + path, Before: shownSources(old), After: shownSources(text),
			Apply: func(ctx context.Context, t module.Target) error {
				conn, err := t.Conn(ctx, host)
				if err != nil {
					return err
				}
				mode := fs.FileMode(0o644)
				if there {
					mode = 0 // it may hold a login, and was made readable for whom it should be
				}
				return conn.Put(ctx, transport.File{Path: path, Mode: mode, Content: strings.NewReader(text), Size: int64(len(text))})
			},
		}
		if !there {
			c.Action, c.Summary, c.Before = module.Create, "write "+path, nil
		}
		changes = append(changes, c)
	}
	return changes
}

// loginInURI is a name and a password in the address of a repository.
var loginInURI = regexp.MustCompile(`(://)[^/@\s]+@`)

// shownSources is a file of sources as plans and journals may have it.
func shownSources(text string) string { return loginInURI.ReplaceAllString(text, "${1}(secret)@") }

func sortedPaths(files pve.SourceFiles) []string {
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// refreshAndProve refreshes the lists. What apt only warns of is an error too: the lists would be those of before.
func refreshAndProve(ctx context.Context, t module.Target) error {
	host := t.Host().Name
	r, err := apt.Refresh(ctx, t, host)
	switch {
	case err != nil && strings.Contains(err.Error(), "401"):
		return fmt.Errorf("an enterprise repository answers 401: the node has no valid subscription for it (look: pvesubscription get): %w", err)
	case err != nil:
		return err
	}
	if failed := apt.Unfetched(r); len(failed) > 0 {
		return errors.Join(fmt.Errorf("apt-get update succeeded and could not fetch everything: %s", strings.Join(failed, "; ")), apt.Mark(ctx, t, host, false))
	}
	return nil
}
