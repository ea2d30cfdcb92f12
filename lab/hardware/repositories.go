package hardware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// Repositories are what a Proxmox node's apt reads, and the subscription that opens the enterprise ones.
type Repositories struct{ m *machine.Machine }

const (
	enterprise       = "https://enterprise.proxmox.com/"
	subscriptionFile = "/etc/subscription"
	listsDir         = "/var/lib/apt/lists"
)

// NodeSources are the files that the installer leaves: the enterprise repositories, which without a subscription answer
// 401. ceph is the release of Ceph that they name.
func nodeSources(codename string) map[string]string {
	if codename == "bookworm" {
		return map[string]string{
			"/etc/apt/sources.list":                       "deb http://ftp.debian.org/debian bookworm main contrib\n\ndeb http://ftp.debian.org/debian bookworm-updates main contrib\n\n# security updates\ndeb http://security.debian.org bookworm-security main contrib\n",
			"/etc/apt/sources.list.d/pve-enterprise.list": "deb https://enterprise.proxmox.com/debian/pve bookworm pve-enterprise\n",
			"/etc/apt/sources.list.d/ceph.list":           "deb https://enterprise.proxmox.com/debian/ceph-quincy bookworm enterprise\n",
		}
	}
	stanza := func(uri, component string) string {
		return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: /usr/share/keyrings/proxmox-archive-keyring.gpg\n", uri, codename, component)
	}
	return map[string]string{
		"/etc/apt/sources.list.d/pve-enterprise.sources": stanza("https://enterprise.proxmox.com/debian/pve", "pve-enterprise"),
		"/etc/apt/sources.list.d/ceph.sources":           stanza("https://enterprise.proxmox.com/debian/ceph-squid", "enterprise"),
	}
}

// InstallRepositories gives a node of a Debian release the repositories of its installation. subscription is a key, or ""
// for none.
func InstallRepositories(m *machine.Machine, codename, subscription string) (*Repositories, error) {
	r := &Repositories{m}
	var failed error
	for path, content := range nodeSources(codename) {
		failed = errors.Join(failed, m.FS.WriteFile(path, []byte(content), 0o644))
	}
	if codename == "bookworm" {
		_ = m.FS.Remove("/etc/apt/sources.list.d/debian.sources") // the base system of the newer release has it
	}
	if subscription != "" {
		failed = errors.Join(failed, m.FS.WriteFile(subscriptionFile, []byte(subscription+"\n"), 0o640))
	}
	// The lists are those of these sources.
	now := m.Now()
	failed = errors.Join(failed, m.FS.Chtimes(listsDir, now, now))
	m.Register("/usr/bin/pvesubscription", r.program)
	r.settle()
	return r, failed
}

// settle opens or closes the enterprise repositories.
func (r *Repositories) settle() {
	f := r.m.AptFaults()
	f.Unauthorized = slices.DeleteFunc(slices.Clone(f.Unauthorized), func(u string) bool { return strings.HasPrefix(u, enterprise) })
	if r.status() != "active" {
		f.Unauthorized = append(f.Unauthorized, enterprise)
	}
	r.m.SetAptFaults(f)
}

var keyForm = regexp.MustCompile(`^pve[1248][cbsp]-[0-9a-f]{10}$`)

func (r *Repositories) key() string {
	content, err := r.m.FS.ReadFile(subscriptionFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// status is that of the key: a well-formed one is active, one that ends in zeros has expired.
func (r *Repositories) status() string {
	switch key := r.key(); {
	case key == "":
		return "notfound"
	case !keyForm.MatchString(key):
		return "invalid"
	case strings.HasSuffix(key, "-0000000000"):
		return "expired"
	}
	return "active"
}

// program is pvesubscription.
func (r *Repositories) program(_ context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return p.Fail(255, "please run as root")
	}
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprintln(p.Stderr, "ERROR: no command specified\nUSAGE: pvesubscription <COMMAND> [ARGS] [OPTIONS]")
		return 255
	}
	switch args[0] {
	case "get":
		if key := r.key(); key != "" {
			p.Printf("checktime: %d\nkey: %s\nlevel: c\nnextduedate: 2027-06-01\nproductname: Proxmox VE Community Subscription 1 CPU/year\nserverid: %s\nsockets: 1\nstatus: %s\n", p.Machine.Now().Unix(), key, r.serverID(), r.status())
			return 0
		}
		p.Printf("message: There is no subscription key\nserverid: %s\nstatus: notfound\nurl: https://www.proxmox.com/en/proxmox-virtual-environment/pricing\n", r.serverID())
	case "set":
		if len(args) < 2 || !keyForm.MatchString(args[1]) {
			fmt.Fprintln(p.Stderr, "400 Parameter verification failed.\nkey: value does not match the regex pattern\npvesubscription set <key>")
			return 255
		}
		if err := r.m.FS.WriteFile(subscriptionFile, []byte(args[1]+"\n"), 0o640); err != nil {
			return p.Fail(255, "%s", machine.Reason(err))
		}
		r.settle()
	case "delete":
		_ = r.m.FS.Remove(subscriptionFile) // none is as good
		r.settle()
	case "update":
		r.settle()
	default:
		fmt.Fprintf(p.Stderr, "ERROR: unknown command 'pvesubscription %s'\n", args[0])
		return 255
	}
	return 0
}

func (r *Repositories) serverID() string {
	content, _ := r.m.FS.ReadFile("/etc/machine-id")
	return strings.ToUpper(cmp.Or(strings.TrimSpace(string(content)), strings.Repeat("0", 32)))
}
