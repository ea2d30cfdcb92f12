package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// User is an account of the machine. The files in /etc are the truth; this is how they are read and written.
type User struct {
	Name       string
	UID, GID   int
	Home       string
	Shell      string
	Password   string // plain, when adding; never filled when reading
	Groups     []string
	Sudo       SudoRule
	SkipCreate bool // do not make the home folder
}

// SudoRule is what sudo allows a user.
type SudoRule int

// The rules.
const (
	SudoNone SudoRule = iota
	SudoPassword
	SudoNoPassword
)

// hashPassword stands for crypt(3): good enough to compare, and plainly not a real hash.
func hashPassword(password string) string {
	sum := sha256.Sum256([]byte("lab " + password))
	return "$lab$" + hex.EncodeToString(sum[:])
}

// AddUser makes an account with its home folder, or changes an existing one.
func (m *Machine) AddUser(u User) error {
	if u.Shell == "" {
		u.Shell = "/bin/bash"
	}
	if u.Home == "" {
		u.Home = "/home/" + u.Name
	}
	if u.GID == 0 && u.UID != 0 {
		u.GID = u.UID
	}
	hash := "*"
	if u.Password != "" {
		hash = hashPassword(u.Password)
	}
	lines := []struct {
		path, line string
		mode       int
	}{
		{"/etc/passwd", fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Name, u.Home, u.Shell), 0o644},
		{"/etc/shadow", fmt.Sprintf("%s:%s:20000:0:99999:7:::", u.Name, hash), 0o640},
		{"/etc/group", fmt.Sprintf("%s:x:%d:", u.Name, u.GID), 0o644},
	}
	for _, l := range lines {
		if err := m.setRecord(l.path, u.Name, l.line); err != nil {
			return err
		}
	}
	for _, group := range u.Groups {
		if err := m.joinGroup(group, u.Name); err != nil {
			return err
		}
	}
	if err := m.setSudo(u); err != nil {
		return err
	}
	if u.SkipCreate {
		return nil
	}
	if err := m.FS.MkdirAll(u.Home, 0o700); err != nil {
		return err
	}
	return m.FS.Chown(u.Home, u.UID, u.GID)
}

func (m *Machine) setSudo(u User) error {
	if u.Sudo == SudoNone {
		return nil
	}
	rule := "ALL=(ALL:ALL) ALL"
	if u.Sudo == SudoNoPassword {
		rule = "ALL=(ALL:ALL) NOPASSWD: ALL"
	}
	if err := m.FS.MkdirAll("/etc/sudoers.d", 0o750); err != nil {
		return err
	}
	return m.FS.WriteFile("/etc/sudoers.d/"+u.Name, []byte(u.Name+" "+rule+"\n"), 0o440)
}

// setRecord replaces or adds the line of a colon-separated file whose first field is name.
func (m *Machine) setRecord(path, name, line string) error {
	content, err := m.FS.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	if at < 0 {
		lines = append(lines, line)
	} else {
		lines[at] = line
	}
	return m.FS.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (m *Machine) joinGroup(group, user string) error {
	record := m.record("/etc/group", func(f []string) bool { return f[0] == group })
	if record == nil {
		return m.setRecord("/etc/group", group, fmt.Sprintf("%s:x:%d:%s", group, 2000+len(group), user))
	}
	members := strings.Split(record[3], ",")
	if slices.Contains(members, user) {
		return nil
	}
	record[3] = strings.Trim(record[3]+","+user, ",")
	return m.setRecord("/etc/group", group, strings.Join(record, ":"))
}

// record returns the fields of the first line of a colon-separated file that match accepts.
func (m *Machine) record(path string, match func([]string) bool) []string {
	content, err := m.FS.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) >= 4 && match(fields) {
			return fields
		}
	}
	return nil
}

// User looks an account up by its name.
func (m *Machine) User(name string) (User, bool) {
	return m.userBy(func(f []string) bool { return f[0] == name })
}

// UserByID looks an account up by its number.
func (m *Machine) UserByID(uid int) (User, bool) {
	text := strconv.Itoa(uid)
	return m.userBy(func(f []string) bool { return f[2] == text })
}

func (m *Machine) userBy(match func([]string) bool) (User, bool) {
	f := m.record("/etc/passwd", match)
	if len(f) < 7 {
		return User{}, false
	}
	uid, errU := strconv.Atoi(f[2])
	gid, errG := strconv.Atoi(f[3])
	if errU != nil || errG != nil {
		return User{}, false
	}
	return User{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}, true
}

// CheckPassword reports whether a password is the user's.
func (m *Machine) CheckPassword(user, password string) bool {
	f := m.record("/etc/shadow", func(f []string) bool { return f[0] == user })
	return f != nil && password != "" && f[1] == hashPassword(password)
}

// groupName returns a group's name, or its number as text.
func (m *Machine) groupName(gid int) string {
	text := strconv.Itoa(gid)
	if f := m.record("/etc/group", func(f []string) bool { return f[2] == text }); f != nil {
		return f[0]
	}
	return text
}

// userName returns a user's name, or the number as text.
func (m *Machine) userName(uid int) string {
	if u, ok := m.UserByID(uid); ok {
		return u.Name
	}
	return strconv.Itoa(uid)
}

// groupID finds a group by name or number.
func (m *Machine) groupID(name string) (int, bool) {
	f := m.record("/etc/group", func(f []string) bool { return f[0] == name })
	if f == nil {
		n, err := strconv.Atoi(name)
		return n, err == nil && n >= 0
	}
	n, err := strconv.Atoi(f[2])
	return n, err == nil
}

// rootGroups spares the most frequent user the look-up.
var rootGroups = []int{0}

// groupsOf returns the groups of a user, the primary one first.
func (m *Machine) groupsOf(uid int) []int {
	if uid == 0 {
		return rootGroups
	}
	u, ok := m.UserByID(uid)
	if !ok {
		return []int{uid}
	}
	groups := []int{u.GID}
	content, err := m.FS.ReadFile("/etc/group")
	if err != nil {
		return groups
	}
	for line := range strings.Lines(string(content)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), u.Name) {
			continue
		}
		if gid, err := strconv.Atoi(f[2]); err == nil && gid != u.GID {
			groups = append(groups, gid)
		}
	}
	return groups
}

// sudoRule reads what sudo allows a user from /etc/sudoers and /etc/sudoers.d.
func (m *Machine) sudoRule(user string) SudoRule {
	if user == "root" {
		return SudoNoPassword
	}
	names := []string{user, "ALL"}
	if u, ok := m.User(user); ok {
		for _, gid := range m.groupsOf(u.UID) {
			names = append(names, "%"+m.groupName(gid))
		}
	}
	files := []string{"/etc/sudoers"}
	if list, err := m.FS.ReadDir("/etc/sudoers.d"); err == nil {
		for _, entry := range list {
			files = append(files, "/etc/sudoers.d/"+entry.Name)
		}
	}
	rule := SudoNone
	for _, path := range files {
		content, _ := m.FS.ReadFile(path)
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) < 2 || !slices.Contains(names, fields[0]) {
				continue
			}
			rule = SudoPassword
			if strings.Contains(line, "NOPASSWD:") {
				rule = SudoNoPassword
			}
		}
	}
	return rule
}

// ViewOf is the file system as a user sees it.
func (m *Machine) ViewOf(u User) *vfs.View {
	view := *m.FS.As(u.UID, m.groupsOf(u.UID)...)
	view.Dir = u.Home
	return &view
}
