package sshx

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ssh_config "github.com/kevinburke/ssh_config"
)

// clientConfig is what ~/.ssh/config says. The zero value says nothing.
type clientConfig struct {
	hosts []*ssh_config.Host
}

// loadClientConfig reads an OpenSSH client configuration. A file that is not there says nothing; lines that pxrun does
// not follow are named in notes, never an error: the file belongs to another program.
func loadClientConfig(path, home string) (clientConfig, []string, error) {
	if path == "" {
		return clientConfig{}, nil, nil
	}
	p := configPreparer{folder: filepath.Join(home, ".ssh"), home: home}
	if err := p.file(path, "", 0); err != nil {
		if os.IsNotExist(err) {
			return clientConfig{}, nil, nil
		}
		return clientConfig{}, nil, fmt.Errorf("read %s: %w", path, err)
	}
	parsed, err := ssh_config.DecodeBytes([]byte(p.text.String()))
	if err != nil {
		return clientConfig{}, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return clientConfig{hosts: parsed.Hosts}, p.notes, nil
}

// configPreparer rewrites a configuration into what the parser understands: Include is inlined, a Match block is left
// out with a note (its conditions may run programs), and only lines that pxrun follows remain.
type configPreparer struct {
	folder, home string
	text         strings.Builder
	notes        []string
}

// maxIncludes is how deep Include may nest, as in OpenSSH.
const maxIncludes = 16

func (p *configPreparer) file(path, within string, depth int) error {
	if depth > maxIncludes {
		p.notes = append(p.notes, fmt.Sprintf("%s: Include nests too deep, the rest is left out", path))
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	block := within // the Host line that holds for the next line
	skip := false
	for i, line := range strings.Split(string(data), "\n") {
		keyword, value := splitDirective(line)
		switch word := strings.ToLower(keyword); {
		case word == "":
		case word == "host" || word == "match" && strings.EqualFold(value, "all"):
			if word == "match" {
				value = "*"
			}
			block, skip = "Host "+value, false
			p.text.WriteString(block + "\n")
		case word == "match":
			skip = true
			p.notes = append(p.notes, fmt.Sprintf("%s:%d: Match is not supported, its block is left out", path, i+1))
		case skip:
		case word == "include":
			if err := p.include(value, block, depth); err != nil {
				return err
			}
		case slices.Contains(followed, word):
			p.text.WriteString("  " + keyword + " " + value + "\n")
		case !slices.Contains(harmless, word):
			p.notes = append(p.notes, fmt.Sprintf("%s:%d: %s is not supported and has no effect", path, i+1, keyword))
		}
	}
	return nil
}

func (p *configPreparer) include(value, block string, depth int) error {
	for _, pattern := range strings.Fields(value) {
		pattern = expandHome(unquote(pattern), p.home)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(p.folder, pattern)
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("include %s: %w", pattern, err)
		}
		for _, path := range paths {
			if err := p.file(path, block, depth+1); err != nil && !os.IsNotExist(err) && !isFolder(path) {
				return err
			}
			if block == "" {
				block = "Host *"
			}
			p.text.WriteString(block + "\n") // a Host line of the included file ends with it
		}
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeDir
}

// followed are the directives that have an effect here.
var followed = []string{
	"hostname", "user", "port", "identityfile", "identitiesonly", "proxyjump", "hostkeyalias", "userknownhostsfile",
	"certificatefile", "stricthostkeychecking",
}

// harmless are directives whose absence a user of pxrun will not notice, so that they earn no note.
var harmless = []string{
	"addkeystoagent", "addressfamily", "batchmode", "canonicalizehostname", "ciphers", "compression", "connecttimeout",
	"connectionattempts", "controlmaster", "controlpath", "controlpersist", "escapechar", "exitonforwardfailure",
	"forwardagent", "forwardx11", "forwardx11trusted", "gssapiauthentication", "gssapidelegatecredentials", "hashknownhosts",
	"hostbasedauthentication", "hostkeyalgorithms", "identityagent", "ignoreunknown", "kexalgorithms", "loglevel", "macs",
	"passwordauthentication", "permitlocalcommand", "preferredauthentications", "pubkeyauthentication", "requesttty", "sendenv",
	"serveralivecountmax", "serveraliveinterval", "setenv", "tcpkeepalive", "updatehostkeys", "usekeychain", "visualhostkey",
	"xauthlocation", "checkhostip", "nohostauthenticationforlocalhost", "globalknownhostsfile", "localforward", "remoteforward",
	"dynamicforward", "kbdinteractiveauthentication", "challengeresponseauthentication", "rekeylimit", "ipqos",
}

// splitDirective cuts "Keyword value", "Keyword=value" and comments.
func splitDirective(line string) (keyword, value string) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return line, ""
	}
	value = strings.TrimLeft(line[i:], " \t")
	value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	if j := strings.Index(value, " #"); j >= 0 && !strings.Contains(value, `"`) {
		value = strings.TrimSpace(value[:j])
	}
	return line[:i], value
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// all returns the values of a directive for a host that goes by several names, in the file's order. A block holds when
// it matches any of the names.
func (c clientConfig) all(directive string, names ...string) []string {
	var values []string
	for _, h := range c.hosts {
		if !slices.ContainsFunc(names, h.Matches) {
			continue
		}
		for _, node := range h.Nodes {
			if kv, ok := node.(*ssh_config.KV); ok && strings.EqualFold(kv.Key, directive) && kv.Value != "" {
				values = append(values, unquote(kv.Value))
			}
		}
	}
	return values
}

// first returns the value that counts for a directive with one value: the first.
func (c clientConfig) first(directive string, names ...string) string {
	if values := c.all(directive, names...); len(values) > 0 {
		return values[0]
	}
	return ""
}

// port returns the configured port, 0 without one.
func (c clientConfig) port(names ...string) (int, error) {
	text := c.first("Port", names...)
	if text == "" {
		return 0, nil
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("ssh_config: Port %q is no port", text)
	}
	return port, nil
}

// expandHome replaces a leading ~.
func expandHome(path, home string) string {
	if path == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return path
}

// expandTokens replaces OpenSSH's percent tokens and a leading ~ in a path.
func expandTokens(path, home string, ep endpoint) string {
	return expandHome(strings.NewReplacer(
		"%%", "%", "%d", home, "%h", ep.address, "%n", ep.name, "%p", strconv.Itoa(ep.port), "%r", ep.user,
	).Replace(path), home)
}
