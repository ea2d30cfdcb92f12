package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	lockTimeout = "DPkg::Lock::Timeout=300"
	listsDir    = "/var/lib/apt/lists"
	aptDir      = "/etc/apt"
	cacheValid  = time.Hour
	aptLimit    = time.Hour
	// A busy small node takes its time over a large change.
	simulateLimit = 5 * time.Minute
)

// aptGet is apt-get that never asks anything (reference §7.3).
func aptGet(args ...string) transport.Command {
	return transport.Command{Argv: append([]string{"apt-get"}, args...), Env: map[string]string{
		"DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "APT_LISTCHANGES_FRONTEND": "none",
		"NEEDRESTART_MODE": "l", "NEEDRESTART_SUSPEND": "1", "UCF_FORCE_CONFFOLD": "1", "LC_ALL": "C",
	}}
}

// aptJob runs apt detached and turns its last complaint into the error.
func aptJob(ctx context.Context, t module.Target, name string, c transport.Command) error {
	r, err := t.Detach(ctx, t.Host().Name, module.Job{Name: name, Command: c, Timeout: limit(ctx, aptLimit)})
	if err != nil {
		return err
	}
	return aptError(r, c)
}

// aptError prefers apt's own lines that begin with E: over the last line, which is often an afterthought, and names the
// dependencies that can't be met: apt prints them before it complains of "held broken packages".
func aptError(r transport.Result, c transport.Command) error {
	err := r.Err(c)
	if err == nil {
		return nil
	}
	var said []string
	unmet := false
	for line := range strings.Lines(string(r.Stdout) + "\n" + string(r.Stderr)) {
		text, complaint := strings.CutPrefix(strings.TrimSpace(line), "E: ")
		if !strings.HasPrefix(line, " ") {
			unmet = strings.HasPrefix(line, "The following packages have unmet dependencies")
		}
		if (complaint || unmet && strings.HasPrefix(line, " ")) && !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("apt-get %s: exit %d: %s", verbOf(c.Argv), r.Exit, strings.Join(said, "; "))
}

func verbOf(argv []string) string {
	for _, word := range argv[1:] {
		if slices.Contains([]string{"update", "install", "remove"}, word) {
			return word
		}
	}
	return ""
}

// packageState is what a host knows about packages.
type packageState struct {
	installed   map[string]string // name to version
	candidate   map[string]string
	interrupted bool
	listAge     time.Duration
}

func (s packageState) versionsOf(names []string) map[string]any {
	m := map[string]any{}
	for _, name := range names {
		m[name] = nil
		if v, ok := s.installed[name]; ok {
			m[name] = v
		}
	}
	return m
}

// readPackageState asks dpkg, and where the newest version matters apt-cache. Lists from before the last change of the
// repositories count as old, whatever their age. Its arguments: whether to ask apt-cache, the directory of the lists, the
// directory of apt's configuration, and the packages.
const readPackageState = `# read the state of packages
policy=$1; lists=$2; apt=$3; shift 3
for f in /var/lib/dpkg/updates/[0-9]*; do if [ -e "$f" ]; then echo interrupted; break; fi; done
fetched=$(stat -c %Y "$lists" 2>/dev/null || echo 0)
changed=$(stat -c %Y "$apt/sources.list" "$apt/sources.list.d" "$apt/sources.list.d"/* 2>/dev/null | sort -n | tail -n 1)
if [ "${changed:-0}" -gt "$fetched" ]; then fetched=0; fi
echo "age $(($(date +%s) - fetched))"
dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" 2>/dev/null | sed 's/^/dpkg /'
if [ "$policy" = yes ]; then apt-cache policy "$@"; fi
`

func (a packageArgs) probe() transport.Command {
	return transport.Command{Script: readPackageState, Argv: append([]string{yes(a.State == "latest"), listsDir, aptDir}, a.Names...)}
}

func readPackages(ctx context.Context, t module.Target, a packageArgs) (packageState, error) {
	r, err := run(ctx, t, a.probe())
	if err != nil {
		return packageState{}, fmt.Errorf("look at the packages: %w", err)
	}
	return parsePackages(string(r.Stdout))
}

func parsePackages(out string) (packageState, error) {
	s := packageState{installed: map[string]string{}, candidate: map[string]string{}}
	about, aged := "", false
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "interrupted":
			s.interrupted = true
		case f[0] == "age" && len(f) == 2:
			seconds, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return s, fmt.Errorf("the age of the package lists is not understood: %q", f[1])
			}
			s.listAge, aged = time.Duration(min(max(seconds, 0), 1<<31))*time.Second, true
		case f[0] == "dpkg" && len(f) == 4 && f[1] == "installed":
			s.installed[f[2]] = f[3]
		case !strings.HasPrefix(line, " ") && strings.HasSuffix(f[0], ":"):
			about = strings.TrimSuffix(f[0], ":")
		case f[0] == "Candidate:" && len(f) == 2 && f[1] != "(none)":
			s.candidate[about] = f[1]
		}
	}
	if !aged {
		return s, errors.New("the host did not say how old its package lists are")
	}
	return s, nil
}

// aptEffects is what apt says that it would do.
type aptEffects struct {
	installs map[string]string // name to new version
	upgrades map[string]string // those of them that are installed already, to their old version
	removes  []string
}

// simulate asks apt what it would do. It takes no lock and changes nothing.
func simulate(ctx context.Context, t module.Target, w packageWork) (aptEffects, error) {
	c := aptGet(append([]string{"-s", "-q", "-o", "Debug::NoLocking=1", w.verb}, w.names...)...)
	c.Timeout = simulateLimit
	r, err := look(ctx, t, c)
	if err != nil {
		return aptEffects{}, err
	}
	if err := aptError(r, c); err != nil {
		return aptEffects{}, err
	}
	return parseSimulation(string(r.Stdout)), nil
}

// parseSimulation reads the lines "Inst pkg [old] (new origin [arch])" and "Remv pkg [version]".
func parseSimulation(out string) aptEffects {
	e := aptEffects{installs: map[string]string{}, upgrades: map[string]string{}}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "Inst":
			rest := f[2:]
			if len(rest) > 0 && strings.HasPrefix(rest[0], "[") {
				e.upgrades[f[1]] = strings.Trim(rest[0], "[]")
				rest = rest[1:]
			}
			e.installs[f[1]] = ""
			if len(rest) > 0 {
				e.installs[f[1]] = strings.TrimPrefix(rest[0], "(")
			}
		case "Remv", "Purg":
			e.removes = append(e.removes, f[1])
		}
	}
	return e
}

// keyPackages are what makes a host a Proxmox node. Their removal takes the node apart (reference §7.3).
var keyPackages = []string{"proxmox-ve", "pve-manager", "qemu-server", "pve-cluster", "corosync", "pve-ha-manager", "pve-container", "libpve-common-perl"}

func (e aptEffects) refuse(host, gate string) error {
	var lost []string
	for _, name := range e.removes {
		if slices.Contains(keyPackages, name) {
			lost = append(lost, name)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return &module.Refusal{
		Host: host, Gate: gate, Saw: "apt would remove " + strings.Join(lost, ", "), Want: "Proxmox VE left whole",
		Look: "apt-get -s -o Debug::NoLocking=1 install … and the enabled repositories", Override: "none",
	}
}

// clusterPackages restart what a node's membership hangs on when they are upgraded.
var clusterPackages = []string{"corosync", "pve-cluster", "pve-ha-manager", "libknet1", "libknet1t64", "libc6", "systemd", "pve-manager"}

func (e aptEffects) risk() module.Risk {
	if len(e.removes) > 0 {
		return module.RiskDisruptive
	}
	for name := range e.upgrades {
		if slices.Contains(clusterPackages, name) {
			return module.RiskDisruptive
		}
	}
	return module.RiskNone
}

// shown adds to the packages that were asked for those that come and go with them.
func (e aptEffects) shown(wanted map[string]any) map[string]any {
	m := map[string]any{}
	for name, version := range wanted {
		m[name] = version
		if v := e.installs[name]; v != "" {
			m[name] = v
		}
	}
	var also []string
	for name := range e.installs {
		if _, asked := wanted[name]; !asked {
			also = append(also, name)
		}
	}
	var gone []string
	for _, name := range e.removes {
		if _, asked := wanted[name]; !asked {
			gone = append(gone, name)
		}
	}
	for key, names := range map[string][]string{"also installed": also, "also removed": gone} {
		if len(names) > 0 {
			slices.Sort(names)
			m[key] = strings.Join(names, ", ")
		}
	}
	return m
}
