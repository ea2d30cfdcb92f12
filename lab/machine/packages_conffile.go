package machine

import (
	"errors"
	"io"
	"strings"
)

// conffileRule is what dpkg was told to do about configuration files.
type conffileRule struct{ old, new, def bool }

// forced reads dpkg's --force options.
func forced(options []string) conffileRule {
	var r conffileRule
	for _, o := range options {
		for word := range strings.SplitSeq(strings.TrimPrefix(o, "--force-"), ",") {
			r.old, r.new, r.def = r.old || word == "confold", r.new || word == "confnew", r.def || word == "confdef"
		}
	}
	return r
}

// placeConffile puts the new version of a configuration file in place. One that somebody has changed, and that the package has
// changed too, is a question.
func (m *Machine) placeConffile(p *Proc, pkg Package, path string, force conffileRule) error {
	shipped := pkg.Conffiles[path]
	record := "/var/lib/dpkg/info/" + pkg.Name + ".conffile" + strings.ReplaceAll(path, "/", "-") // what the last version shipped
	before, err := m.FS.ReadFile(record)
	known := err == nil
	have, err := m.FS.ReadFile(path)
	there := err == nil
	install := func(to string) error {
		if err := m.FS.MkdirAll(path[:strings.LastIndexByte(path, '/')+1], 0o755); err != nil {
			return err
		}
		return errors.Join(m.FS.WriteFile(to, []byte(shipped), 0o644), m.FS.WriteFile(record, []byte(shipped), 0o644))
	}
	switch {
	case !there && known: // somebody removed it
		return nil
	case !there || string(have) == shipped || known && string(have) == string(before):
		_ = m.FS.Remove(path + ".dpkg-new") // mostly there is none
		return install(path)
	case known && string(before) == shipped:
		return nil // only the admin has changed it
	}
	io.WriteString(p.Stdout, "\nConfiguration file '"+path+"'\n ==> Modified (by you or by a script) since installation.\n ==> Package distributor has shipped an updated version.\n")
	keep, err := m.askConffile(p, path, force)
	if err != nil {
		_ = m.FS.WriteFile(path+".dpkg-new", []byte(shipped), 0o644) // dpkg has unpacked it already
		return err
	}
	_ = m.FS.Remove(path + ".dpkg-new") // mostly there is none
	if keep {
		return install(path + ".dpkg-dist")
	}
	if err := m.FS.WriteFile(path+".dpkg-old", have, 0o644); err != nil {
		return err
	}
	return install(path)
}

// askConffile asks what is to become of a changed configuration file, unless dpkg was told beforehand.
func (m *Machine) askConffile(p *Proc, path string, force conffileRule) (keep bool, err error) {
	switch {
	case force.old || force.def && !force.new:
		text := " ==> Using current old file as you requested.\n"
		if force.def {
			text = " ==> Keeping old config file as default.\n"
		}
		io.WriteString(p.Stdout, text)
		return true, nil
	case force.new:
		io.WriteString(p.Stdout, " ==> Using new file as you requested.\n")
		return false, nil
	}
	io.WriteString(p.Stdout, `   What would you like to do about it ?  Your options are:
    Y or I  : install the package maintainer's version
    N or O  : keep your currently-installed version
      D     : show the differences between the versions
      Z     : start a shell to examine the situation
 The default action is to keep your current version.
`)
	for {
		io.WriteString(p.Stdout, "*** "+lastName(path)+" (Y/I/N/O/D/Z) [default=N] ? ")
		line, err := readAnswer(p.Stdin)
		if err != nil {
			return false, errors.New("end of file on stdin at conffile prompt")
		}
		switch strings.ToUpper(line) {
		case "", "N", "O":
			return true, nil
		case "Y", "I":
			return false, nil
		}
	}
}

// readAnswer reads a line and no byte more.
func readAnswer(in io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := in.Read(one)
		if n == 1 && one[0] == '\n' {
			return strings.TrimSpace(string(line)), nil
		}
		line = append(line, one[:n]...)
		if err != nil {
			return "", err
		}
	}
}
