package runbooks

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

var sshSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{
		{Name: "user"}, {Name: "port"}, {Name: "identity_file"}, {Name: "identity_files"}, {Name: "certificate"},
		{Name: "password"}, {Name: "passphrase"}, {Name: "host_keys"}, {Name: "host_key"}, {Name: "known_hosts"},
		{Name: "jump"}, {Name: "connect_timeout"}, {Name: "sessions"}, {Name: "use_ssh_config"},
	},
	Blocks: []hcl.BlockHeaderSchema{{Type: "become"}},
}

var becomeSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "method"}, {Name: "password"}}}

// sshLayer is what one ssh block says. Settings that it leaves out come from the layer outside of it.
type sshLayer struct {
	set      inventory.SSH
	port     bool // the numbers and switches that were written, zero or not
	sessions bool
	config   bool
	jump     bool
	become   bool
	jumpAt   hcl.Range
}

// sshOf reads the ssh block among a block's content. single tells whether a host key makes sense there.
func (l *loader) sshOf(blocks hcl.Blocks, single bool) sshLayer {
	var layer sshLayer
	for i, b := range blocks.OfType("ssh") {
		if i > 0 {
			l.report(diag.Error("Duplicate ssh block", fmt.Sprintf("The settings are already given at %s. Put them into one block.", place(blocks.OfType("ssh")[0].DefRange)), b.DefRange))
			break
		}
		layer = l.readSSH(b, single)
	}
	return layer
}

func (l *loader) readSSH(b *hcl.Block, single bool) sshLayer {
	var layer sshLayer
	content, diags := contentOf(b, sshSchema)
	l.report(diags)
	a, s := l.attributes(content, scope{}), &layer.set
	dir := filepath.Dir(l.src.open(b.DefRange.Filename))
	a.text("user", &s.User)
	_, layer.port = a.whole("port", 1, 65535, &s.Port)
	for _, name := range []string{"identity_file", "identity_files"} {
		var files []string
		a.texts(name, &files)
		s.IdentityFiles = append(s.IdentityFiles, l.localPaths(dir, files...)...)
	}
	if a.text("certificate", &s.Certificate); s.Certificate != "" {
		s.Certificate = l.localPaths(dir, s.Certificate)[0]
	}
	a.secretText("password", &s.Password)
	a.secretText("passphrase", &s.Passphrase)
	var policy string
	a.oneOf("host_keys", &policy, string(inventory.HostKeysStrict), string(inventory.HostKeysAcceptNew))
	s.HostKeys = inventory.HostKeyPolicy(policy)
	if attr, given := content.Attributes["host_key"]; given && !single {
		l.report(diag.Error("Host key of many hosts", "A host key belongs to one host. Write it into the node or host.", attr.NameRange))
	} else {
		s.HostKey = l.hostKey(a)
	}
	a.texts("known_hosts", &s.KnownHosts)
	s.KnownHosts = l.localPaths(dir, s.KnownHosts...)
	a.duration("connect_timeout", &s.ConnectTimeout)
	_, layer.sessions = a.whole("sessions", 1, 10, &s.Sessions)
	if _, given := content.Attributes["use_ssh_config"]; given {
		use := true
		a.flag("use_ssh_config", &use)
		s.NoConfig, layer.config = !use, true
	}
	if attr, given := content.Attributes["jump"]; given {
		s.Jump, layer.jump, layer.jumpAt = l.jumps(attr.Expr), true, attr.Expr.Range()
	}
	for i, b := range content.Blocks {
		if i > 0 {
			l.report(diag.Error("Duplicate become block", "There can be one become block.", b.DefRange))
			break
		}
		layer.become = true
		s.Become = l.becomeOf(b)
	}
	return layer
}

func (l *loader) becomeOf(b *hcl.Block) inventory.Become {
	content, diags := contentOf(b, becomeSchema)
	l.report(diags)
	a := l.attributes(content, scope{})
	become := inventory.Become{Method: "sudo"}
	a.oneOf("method", &become.Method, "sudo", "none")
	if become.Method == "none" {
		become.Method = ""
	}
	a.secretText("password", &become.Password)
	return become
}

func (l *loader) hostKey(a attributes) string {
	var line string
	at, ok := a.text("host_key", &line)
	if !ok {
		return ""
	}
	if why := checkHostKey(line); why != "" {
		l.report(diag.Error("Invalid host key", why, at))
		return ""
	}
	return strings.Join(strings.Fields(line)[:2], " ")
}

// localPaths resolves paths that start with ~ or at the folder of the file.
func (l *loader) localPaths(dir string, paths ...string) []string {
	for i, p := range paths {
		p = expandHome(p, l.around.home)
		if !filepath.IsAbs(p) && !strings.HasPrefix(p, "~") {
			p = filepath.Join(dir, p)
		}
		paths[i] = p
	}
	return paths
}

// jumps reads jump = host.bastion, "user@gate:2222", or a list of these. References are taken as names and not
// evaluated: hosts may jump over nodes of the cluster that they are in.
func (l *loader) jumps(expr hcl.Expression) []string {
	items, diags := hcl.ExprList(expr)
	if diags.HasErrors() {
		items = []hcl.Expression{expr}
	}
	var hops []string
	for _, item := range items {
		if t, diags := hcl.AbsTraversalForExpr(item); !diags.HasErrors() && (t.RootName() == "host" || t.RootName() == "cluster") {
			if wrong := l.checkTraversal(t, scope{}); wrong.HasErrors() {
				l.report(wrong)
				continue
			}
			want := map[string]int{"host": 2, "cluster": 3}[t.RootName()]
			name, ok := step(t, want-1)
			if _, known := l.skeleton.hostBy[name]; !ok || len(t) != want || !known {
				l.report(diag.Error("Invalid jump", "A jump is one host: host.<name>, cluster.<name>.<node>, or a text such as \"user@gate.example.com:22\".", item.Range()))
				continue
			}
			hops = append(hops, name)
			continue
		}
		v := l.eval(item, scope{constant: true})
		plain, _ := v.UnmarkDeep()
		if plain.IsNull() || !plain.IsWhollyKnown() {
			continue
		}
		texts, diags := textList("jump", plain, item.Range())
		l.report(diags)
		for _, text := range texts {
			l.report(l.checkHop(text, item.Range()))
			hops = append(hops, text)
		}
	}
	return hops
}

// checkHop checks a jump that was written as text: the name of a host of the files, or [user@]host[:port].
func (l *loader) checkHop(text string, at hcl.Range) diag.List {
	if _, known := l.skeleton.hostBy[text]; known {
		return nil
	}
	if !strings.ContainsAny(text, "@.:") {
		return diag.Error("Unknown host", fmt.Sprintf("There is no host %q to jump over.%s For a machine that is not in the files write user@%s.",
			text, diag.DidYouMean(text, l.skeleton.hostNames()), text), at)
	}
	host := text
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = after
	}
	if name, port, ok := strings.Cut(host, ":"); ok && strings.Count(host, ":") == 1 && strings.Trim(port, "0123456789") == "" {
		host = name
	}
	host = strings.Trim(host, "[]")
	if why := checkAddress(host); why != "" && !strings.Contains(text, "]:") {
		return diag.Error("Invalid jump", why, at)
	}
	return nil
}

// over lays the settings of an inner block over those of the one outside of it.
func (in sshLayer) over(out sshLayer) sshLayer {
	s, o := in.set, out.set
	pick(&s.User, o.User)
	pick(&s.Certificate, o.Certificate)
	pick(&s.HostKeys, o.HostKeys)
	pick(&s.HostKey, o.HostKey)
	pick(&s.ConnectTimeout, o.ConnectTimeout)
	pickSecret(&s.Password, o.Password)
	pickSecret(&s.Passphrase, o.Passphrase)
	if len(s.IdentityFiles) == 0 {
		s.IdentityFiles = slices.Clone(o.IdentityFiles)
	}
	if len(s.KnownHosts) == 0 {
		s.KnownHosts = slices.Clone(o.KnownHosts)
	}
	merged := in
	if !in.port {
		s.Port, merged.port = o.Port, out.port
	}
	if !in.sessions {
		s.Sessions, merged.sessions = o.Sessions, out.sessions
	}
	if !in.config {
		s.NoConfig, merged.config = o.NoConfig, out.config
	}
	if !in.become {
		s.Become, merged.become = o.Become, out.become
	}
	if !in.jump {
		s.Jump, merged.jump, merged.jumpAt = slices.Clone(o.Jump), out.jump, out.jumpAt
	}
	merged.set = s
	return merged
}

func pick[T comparable](into *T, from T) {
	var zero T
	if *into == zero {
		*into = from
	}
}

func pickSecret(into *secret.String, from secret.String) {
	if into.Empty() {
		*into = from
	}
}

// connections gives every host its settings: host over cluster over site.
func (l *loader) connections() {
	site := l.siteSSH()
	byCluster := map[string]sshLayer{}
	for _, c := range l.skeleton.clusters {
		layer := l.sshOf(c.content.Blocks, false).over(site)
		byCluster[c.name] = layer
	}
	jumps := map[string]sshLayer{}
	for _, h := range l.skeleton.hosts {
		outer := site
		if h.cluster != nil {
			outer = byCluster[h.cluster.name]
		}
		own := l.sshOf(h.content.Blocks, true)
		layer := own.over(outer)
		if key := l.hostKey(l.attributes(h.content, scope{})); key != "" {
			layer.set.HostKey = key
		}
		if i := slices.Index(layer.set.Jump, h.name); i >= 0 {
			if own.jump {
				l.report(diag.Error("Jump over itself", fmt.Sprintf("%s cannot be reached over itself.", h.name), own.jumpAt))
			}
			// The jump host of a whole cluster, or site, is reached by the hops before it.
			layer.set.Jump = layer.set.Jump[:i:i]
		}
		jumps[h.name] = layer
		h.host.SSH = layer.set
	}
	l.expandJumps(jumps)
	for _, c := range l.skeleton.clusters {
		l.clusterSSH[c.name] = byCluster[c.name].set
	}
}

// siteSSH reads the ssh block that stands outside of everything, or in pxrun { }.
func (l *loader) siteSSH() sshLayer {
	blocks := slices.Clone(hcl.Blocks(l.decls.ssh))
	for _, content := range l.settings {
		blocks = append(blocks, content.Blocks.OfType("ssh")...)
	}
	return l.sshOf(blocks, false)
}

// expandJumps makes each list of hops complete: the first hop is reached by its own hops.
func (l *loader) expandJumps(layers map[string]sshLayer) {
	full := map[string][]string{}
	var expand func(name string, path []string) []string
	expand = func(name string, path []string) []string {
		if hops, ok := full[name]; ok {
			return hops
		}
		layer := layers[name]
		if i := slices.Index(path, name); i >= 0 {
			l.report(diag.Error("Jumps in a circle", fmt.Sprintf("To reach one of these hosts the next must be reached first: %s.",
				strings.Join(append(path[i:len(path):len(path)], name), " → ")), layer.jumpAt))
			for _, p := range path {
				full[p] = nil // reported once
			}
			return nil
		}
		hops := layer.set.Jump
		if len(hops) > 0 {
			if _, known := layers[hops[0]]; known {
				hops = slices.Concat(expand(hops[0], append(path, name)), hops)
			}
		}
		if _, ok := full[name]; !ok {
			full[name] = hops
		}
		return full[name]
	}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		l.skeleton.hostBy[name].host.SSH.Jump = expand(name, nil)
	}
}
