package machine

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
)

func runID(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("ugGnr", "user=u", "group=g", "groups=G", "name=n")
	if !ok {
		return 1
	}
	uid := p.UID
	if len(rest) > 0 {
		u, found := p.Machine.User(rest[0])
		if !found {
			return p.Fail(1, "‘%s’: no such user", rest[0])
		}
		uid = u.UID
	}
	groups := p.Machine.groupsOf(uid)
	user, group := strconv.Itoa, strconv.Itoa
	if opts.has("n") {
		user, group = p.Machine.userName, p.Machine.groupName
	}
	switch {
	case opts.has("u"):
		p.Println(user(uid))
	case opts.has("g"):
		p.Println(group(groups[0]))
	case opts.has("G"):
		var names []string
		for _, g := range groups {
			names = append(names, group(g))
		}
		p.Println(strings.Join(names, " "))
	default:
		var names []string
		for _, g := range groups {
			names = append(names, fmt.Sprintf("%d(%s)", g, p.Machine.groupName(g)))
		}
		p.Printf("uid=%d(%s) gid=%d(%s) groups=%s\n", uid, p.Machine.userName(uid), groups[0], p.Machine.groupName(groups[0]), strings.Join(names, ","))
	}
	return 0
}

func runWhoami(_ context.Context, p *Proc) int {
	p.Println(p.Machine.userName(p.UID))
	return 0
}

func runGroups(_ context.Context, p *Proc) int {
	var names []string
	for _, g := range p.Machine.groupsOf(p.UID) {
		names = append(names, p.Machine.groupName(g))
	}
	p.Println(strings.Join(names, " "))
	return 0
}

func runUseradd(_ context.Context, p *Proc) int {
	opts, names, ok := p.getopt("mMrs:d:u:g:G:c:UN", "create-home=m", "system=r", "shell=s", "home-dir=d", "uid=u", "gid=g", "groups=G", "comment=c")
	if !ok || len(names) != 1 {
		return 2
	}
	if _, exists := p.Machine.User(names[0]); exists {
		return p.Fail(9, "user '%s' already exists", names[0])
	}
	if p.UID != 0 {
		return p.Fail(1, "Permission denied.")
	}
	uid, err := strconv.Atoi(opts.last("u"))
	if err != nil {
		for uid = 1000; ; uid++ {
			if _, taken := p.Machine.UserByID(uid); !taken {
				break
			}
		}
	}
	u := User{Name: names[0], UID: uid, Home: opts.last("d"), Shell: cmp.Or(opts.last("s"), "/bin/sh"), SkipCreate: !opts.has("m")}
	if g := opts.last("G"); g != "" {
		u.Groups = strings.Split(g, ",")
	}
	if err := p.Machine.AddUser(u); err != nil {
		return p.Fail(1, "%v", err)
	}
	return 0
}

func runGroupadd(_ context.Context, p *Proc) int {
	opts, names, ok := p.getopt("rg:f", "system=r", "gid=g", "force=f")
	if !ok || len(names) != 1 {
		return 2
	}
	if _, exists := p.Machine.groupID(names[0]); exists {
		if opts.has("f") {
			return 0
		}
		return p.Fail(9, "group '%s' already exists", names[0])
	}
	gid := cmp.Or(opts.last("g"), strconv.Itoa(3000+len(names[0])))
	if err := p.Machine.setRecord("/etc/group", names[0], names[0]+":x:"+gid+":"); err != nil {
		return p.Fail(1, "%v", err)
	}
	return 0
}

func runChpasswd(_ context.Context, p *Proc) int {
	content, err := p.ReadInput("-")
	if err != nil || p.UID != 0 {
		return 1
	}
	for _, line := range lines(content) {
		user, password, _ := strings.Cut(line, ":")
		f := p.Machine.record("/etc/shadow", func(f []string) bool { return f[0] == user })
		if f == nil {
			return p.Fail(1, "(line 1, user %s) password not changed", user)
		}
		f[1] = hashPassword(password)
		if err := p.Machine.setRecord("/etc/shadow", user, strings.Join(f, ":")); err != nil {
			return p.Fail(1, "%v", err)
		}
	}
	return 0
}
