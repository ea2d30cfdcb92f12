package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
)

//go:embed file.md
var fileDoc string

type fileArgs struct {
	Path    string      `hcl:"path" doc:"The absolute path on the host."`
	State   string      `hcl:"state,optional" doc:"What must be there." default:"file" oneof:"file directory link absent"`
	Content secret.Text `hcl:"content,optional" doc:"The file's whole content; may be secret, and is then never shown."`
	Source  schema.Path `hcl:"source,optional" doc:"A local file whose content the file must have."`
	Target  string      `hcl:"target,optional" doc:"What a link points at."`
	Mode    fs.FileMode `hcl:"mode,optional" doc:"The permissions; left alone when not given. New files with secret content get 0600." example:"0644"`
	Owner   string      `hcl:"owner,optional" doc:"The user that owns it; left alone when not given."`
	Group   string      `hcl:"group,optional" doc:"The group that owns it; left alone when not given."`
	Parents bool        `hcl:"parents,optional" doc:"Make missing directories above it." default:"false"`
	Backup  bool        `hcl:"backup,optional" doc:"Keep a file that is overwritten or removed beside it, with the ending .pxrun~." default:"false"`
	Force   bool        `hcl:"force,optional" doc:"Replace a link by a file, or a file by a link. A directory is never replaced." default:"false"`
}

// Validate checks what the tags can't say.
func (a fileArgs) Validate() error {
	var errs []error
	wrong := func(at, format string, args ...any) {
		errs = append(errs, schema.At(at, fmt.Errorf(format, args...)))
	}
	switch {
	case !path.IsAbs(a.Path):
		wrong("path", "it must be an absolute path")
	case a.Path == "/" || path.Clean(a.Path) != strings.TrimSuffix(a.Path, "/"):
		wrong("path", "write it without . and .. and doubled slashes, and not as / itself")
	}
	hasText := a.Content.Given() || a.Source != ""
	switch {
	case a.Content.Given() && a.Source != "":
		wrong("source", "give either content or source")
	case hasText && a.State != "file":
		wrong("state", "only a file has content, not a %s one", a.State)
	}
	if (a.State == "link") != (a.Target != "") {
		wrong("target", "it belongs to state = \"link\", and is required there")
	}
	if a.State == "link" && a.Mode != 0 {
		wrong("mode", "a link has no mode of its own")
	}
	for at, name := range map[string]string{"owner": a.Owner, "group": a.Group} {
		if name != "" && !userName.MatchString(name) {
			wrong(at, "%q is no name of a user or group", name)
		}
	}
	if onPmxcfs(a.Path) {
		if a.Mode != 0 || a.Owner != "" || a.Group != "" {
			wrong("path", "/etc/pve sets modes and owners itself: leave out mode, owner and group")
		}
		if a.State == "link" {
			wrong("state", "/etc/pve has no links of one's own")
		}
	}
	return errors.Join(errs...)
}

var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$`)

// onPmxcfs reports whether a path is in the file system that the cluster shares.
func onPmxcfs(p string) bool { return p == "/etc/pve" || strings.HasPrefix(p, "/etc/pve/") }

func newFile() module.Module {
	return module.Define(module.Spec{
		Name: "file", Summary: "Keep a file, directory or link as it is described", Doc: fileDoc,
	}, module.Funcs[fileArgs, fileResult]{
		Probes: func(t module.Target, a fileArgs) []module.Probe { return probesOf(t, a.probe()) },
		Plan:   planFile,
		Read:   readFile,
	})
}

func planFile(ctx context.Context, t module.Target, a fileArgs) ([]module.Change, error) {
	if r := refuseFile(t.Host().Name, a); r != nil {
		return nil, r
	}
	want, err := a.content()
	if err != nil {
		return nil, err
	}
	have, err := readState(ctx, t, a.probe())
	if err != nil {
		return nil, err
	}
	todo, err := compareFile(have, a, want)
	if err != nil || todo.nothing() {
		return nil, err
	}
	before, after, err := todo.shown(ctx, t, have, a, want)
	if err != nil {
		return nil, err
	}
	host := t.Host().Name
	return []module.Change{{
		ID: host + "/" + a.Path, Host: host, Summary: todo.summary(a), Action: todo.action, Risk: todo.risk,
		Before: before, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return todo.apply(ctx, t, a, want) },
	}}, nil
}

type fileResult struct {
	State  string `hcl:"state" doc:"What is there: file, directory, link, other or absent."`
	Mode   string `hcl:"mode" doc:"Its permissions in octal, and empty for links and what is absent."`
	Owner  string `hcl:"owner" doc:"The user that owns it."`
	Group  string `hcl:"group" doc:"The group that owns it."`
	Size   int64  `hcl:"size" doc:"The size of a file in bytes."`
	SHA256 string `hcl:"sha256" doc:"The digest of a file."`
	Target string `hcl:"target" doc:"What a link points at."`
}

func readFile(ctx context.Context, t module.Target, a fileArgs) (fileResult, error) {
	have, err := readState(ctx, t, a.probe())
	if err != nil {
		return fileResult{}, err
	}
	mode := ""
	if have.mode != 0 {
		mode = schema.FormatMode(have.mode)
	}
	return fileResult{have.kind, mode, have.owner, have.group, have.size, have.sum, have.target}, nil
}

// protectedFiles are written by their own procedures only: a careless write splits or stops the cluster.
var protectedFiles = []struct{ pattern, why, override string }{
	{`^/etc/corosync/(corosync\.conf|authkey)$`, "this copy is written by pmxcfs, and a change of it splits the node off", "none: change the cluster with cluster_create, node_join and the modules for links"},
	{`^/etc/pve/corosync\.conf(\.new)?$`, "a wrong or badly numbered version stops corosync on every node", "none: change the cluster with cluster_create, node_join and the modules for links"},
	{`^/etc/pve/priv/(authkey\.key|authorized_keys|known_hosts|pve-root-ca\.(key|srl)|lock)(/|$)`, "the cluster's trust hangs on it", "none: Proxmox keeps it"},
	{`^/please-remove-proxmox-ve$`, "it lets apt remove Proxmox VE", "none"},
	{`^/var/lib/pve-cluster(/|$)`, "it is the database of pmxcfs", "none"},
}

var guestConfig = regexp.MustCompile(`^/etc/pve/(nodes/[^/]+/|local/)?(qemu-server|lxc)(/|$)`)

// refuseFile says no to files that reference §14 forbids to touch.
func refuseFile(host string, a fileArgs) error {
	for _, p := range protectedFiles {
		if regexp.MustCompile(p.pattern).MatchString(a.Path) {
			return &module.Refusal{Host: host, Gate: "change " + a.Path, Saw: p.why, Want: "another path", Look: "ls -l " + a.Path, Override: p.override}
		}
	}
	if a.State == "absent" && guestConfig.MatchString(a.Path) {
		return &module.Refusal{
			Host: host, Gate: "remove " + a.Path, Saw: "it is the configuration of a guest, whose disks would be left behind without a name",
			Want: "another path", Look: "ls -l " + a.Path, Override: "remove the guest with qm destroy or pct destroy",
		}
	}
	return nil
}
