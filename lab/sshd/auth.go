package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/machine"
)

// errDenied refuses a login; the client learns no more than that.
var errDenied = errors.New("permission denied")

// forceCommand is the permission in which a key's command="…" travels.
const forceCommand = "force-command"

// authConfig makes the configuration of one handshake from the machine's files as they are now.
func (s *Server) authConfig(ctx context.Context, remote net.Addr) (*ssh.ServerConfig, error) {
	c := readConfig(s.m)
	tries, err := strconv.Atoi(c.get("maxauthtries", "6"))
	if err != nil {
		tries = 6
	}
	out := &ssh.ServerConfig{ServerVersion: "SSH-2.0-OpenSSH_10.0p2 Debian-7", MaxAuthTries: tries}
	if c.yes("pubkeyauthentication", true) {
		out.PublicKeyCallback = func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			return s.checkKey(ctx, c, meta, key)
		}
	}
	if c.yes("passwordauthentication", true) {
		out.PasswordCallback = func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return s.checkPassword(ctx, c, meta, string(password), "password")
		}
	}
	if c.yes("kbdinteractiveauthentication", false) {
		out.KeyboardInteractiveCallback = func(meta ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 {
				return nil, errDenied
			}
			return s.checkPassword(ctx, c, meta, answers[0], "keyboard-interactive/pam")
		}
	}
	out.AuthLogCallback = func(meta ssh.ConnMetadata, method string, err error) { s.logAuth(meta, method, remote, err) }
	if banner := c.get("banner", "none"); banner != "none" {
		if text, err := s.m.FS.ReadFile(banner); err == nil {
			out.BannerCallback = func(ssh.ConnMetadata) string { return string(text) }
		}
	}
	keys := s.m.HostKeys()
	if len(keys) == 0 {
		return nil, errors.New("no host keys")
	}
	for _, key := range keys {
		out.AddHostKey(key)
	}
	return out, nil
}

func (s *Server) logAuth(meta ssh.ConnMetadata, method string, remote net.Addr, err error) {
	if method == "none" {
		return
	}
	verdict := "Accepted"
	if err != nil {
		verdict = "Failed"
	}
	host, port, _ := net.SplitHostPort(remote.String())
	s.m.Log(machine.Entry{Unit: "ssh.service", Ident: "sshd-session", Priority: 6, Text: fmt.Sprintf("%s %s for %s from %s port %s ssh2", verdict, method, meta.User(), host, port)})
}

// user finds the account of a login that may log in at all.
func (s *Server) user(c config, name, method string) (machine.User, error) {
	u, ok := s.m.User(name)
	if !ok || strings.HasSuffix(u.Shell, "nologin") || strings.HasSuffix(u.Shell, "/false") {
		return u, errDenied
	}
	if u.UID == 0 {
		switch strings.ToLower(c.get("permitrootlogin", "prohibit-password")) {
		case "no":
			return u, errDenied
		case "prohibit-password", "without-password":
			if method != "publickey" {
				return u, errDenied
			}
		}
	}
	return u, nil
}

func (s *Server) checkPassword(ctx context.Context, c config, meta ssh.ConnMetadata, password, method string) (*ssh.Permissions, error) {
	u, err := s.user(c, meta.User(), "password")
	if err != nil {
		return nil, err
	}
	if !s.m.CheckPassword(u.Name, password) {
		return nil, errDenied
	}
	return &ssh.Permissions{}, s.vetted(ctx, u.Name, method)
}

func (s *Server) vetted(ctx context.Context, user, method string) error {
	if s.opt.OnAuth == nil {
		return nil
	}
	return s.opt.OnAuth(ctx, user, method)
}

// checkKey looks a key up in the user's authorized_keys, or a certificate's signer in TrustedUserCAKeys.
func (s *Server) checkKey(ctx context.Context, c config, meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	u, err := s.user(c, meta.User(), "publickey")
	if err != nil {
		return nil, err
	}
	perms, err := s.authorized(c, u, meta, key)
	if err != nil {
		return nil, err
	}
	return perms, s.vetted(ctx, u.Name, "publickey")
}

func (s *Server) authorized(c config, u machine.User, meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if cert, ok := key.(*ssh.Certificate); ok {
		return s.certificate(c, meta, cert)
	}
	for _, name := range strings.Fields(c.get("authorizedkeysfile", ".ssh/authorized_keys .ssh/authorized_keys2")) {
		path := strings.NewReplacer("%u", u.Name, "%h", u.Home).Replace(name)
		if !strings.HasPrefix(path, "/") {
			path = u.Home + "/" + path
		}
		content, err := s.m.FS.ReadFile(path)
		if err != nil || c.yes("strictmodes", true) && !s.safe(u, path) {
			continue
		}
		if perms := findKey(content, key); perms != nil {
			return perms, nil
		}
	}
	return nil, errDenied
}

// safe is StrictModes: nobody else may write the file, nor the folder that holds it.
func (s *Server) safe(u machine.User, path string) bool {
	for _, p := range []string{path, path[:strings.LastIndexByte(path, '/')]} {
		info, err := s.m.FS.Stat(p)
		if err != nil || info.UID != 0 && info.UID != u.UID {
			return false
		}
		if info.Mode&fs.ModePerm&0o022 != 0 {
			return false
		}
	}
	return true
}

// findKey returns the permissions of the line that holds a key, or nil.
func findKey(content []byte, key ssh.PublicKey) *ssh.Permissions {
	want := key.Marshal()
	for len(content) > 0 {
		line := content
		if i := bytes.IndexByte(content, '\n'); i >= 0 {
			line, content = content[:i], content[i+1:]
		} else {
			content = nil
		}
		parsed, _, options, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil || !bytes.Equal(parsed.Marshal(), want) {
			continue
		}
		perms := &ssh.Permissions{Extensions: map[string]string{}}
		for _, o := range options {
			if command, ok := strings.CutPrefix(o, `command="`); ok {
				perms.Extensions[forceCommand] = strings.ReplaceAll(strings.TrimSuffix(command, `"`), `\"`, `"`)
			}
		}
		return perms
	}
	return nil
}

func (s *Server) certificate(c config, meta ssh.ConnMetadata, cert *ssh.Certificate) (*ssh.Permissions, error) {
	content, err := s.m.FS.ReadFile(c.get("trustedusercakeys", "none"))
	if err != nil {
		return nil, errDenied
	}
	checker := &ssh.CertChecker{
		Clock:           s.m.Now,
		IsUserAuthority: func(authority ssh.PublicKey) bool { return findKey(content, authority) != nil },
	}
	return checker.Authenticate(meta, cert)
}
