package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pxrun/pxrun/lab/vfs"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newTree() (*vfs.Tree, *vfs.Mem) {
	mem := vfs.NewMem(func() time.Time { return epoch })
	return vfs.NewTree(mem), mem
}

func errno(err error) syscall.Errno { return vfs.Errno(err) }

func TestPathsAreResolvedAsByTheKernel(t *testing.T) {
	tree, _ := newTree()
	require.NoError(t, tree.MkdirAll("/a/b", 0o755))
	require.NoError(t, tree.WriteFile("/a/b/f", []byte("x"), 0o644))
	for link, target := range map[string]string{
		"/abs": "/a/b", "/rel": "a/b", "/a/up": "../a/b/f", "/loop1": "loop2", "/loop2": "loop1", "/broken": "none", "/self": ".", "/a/b/back": "../../rel",
	} {
		require.NoError(t, tree.Symlink(target, link))
	}
	for _, c := range []struct {
		path string
		want syscall.Errno
	}{
		{"/a/b/f", 0}, {"/abs/f", 0}, {"/rel/f", 0}, {"/a/up", 0}, {"//a/./b//f", 0}, {"/a/b/../b/f", 0}, {"/../a/b/f", 0}, {"/self/self/a/b/f", 0}, {"/abs/back/f", 0}, {"/a/b/", 0},
		{"/none", syscall.ENOENT}, {"/none/f", syscall.ENOENT}, {"", syscall.ENOENT}, {"/broken", syscall.ENOENT}, {"/a/b/f/x", syscall.ENOTDIR}, {"/a/b/f/", syscall.ENOTDIR},
		{"/a/b/f/..", syscall.ENOTDIR}, {"/loop1", syscall.ELOOP}, {"/loop1/x", syscall.ELOOP}, {"/" + strings.Repeat("x", 300), syscall.ENAMETOOLONG}, {strings.Repeat("/a", 3000), syscall.ENAMETOOLONG},
	} {
		_, err := tree.Stat(c.path)
		require.Equal(t, c.want, errno(err), "%.40s: %v", c.path, err)
	}
	info, err := tree.Lstat("/broken")
	require.NoError(t, err)
	require.Equal(t, "none", info.Target)
	real, err := tree.Realpath("/abs/back/f", false)
	require.NoError(t, err)
	require.Equal(t, "/a/b/f", real)
	_, err = tree.Lstat("/broken/")
	require.Equal(t, syscall.ENOENT, errno(err))
}

func TestLinksOutOfAMountLeadThroughTheTree(t *testing.T) {
	tree, _ := newTree()
	inner := vfs.NewMem(func() time.Time { return epoch })
	require.NoError(t, tree.WriteFile("/outside", []byte("out"), 0o644))
	require.NoError(t, tree.MkdirAll("/etc/pve", 0o755))
	require.NoError(t, tree.WriteFile("/etc/pve/hidden", []byte("below"), 0o644))
	require.NoError(t, tree.Mount("/etc/pve", inner))
	require.NoError(t, tree.Symlink("/outside", "/etc/pve/abs"))
	require.NoError(t, tree.Symlink("../../outside", "/etc/pve/rel"))
	require.NoError(t, tree.Symlink("/etc/pve/own", "/link"))
	require.NoError(t, tree.WriteFile("/link", []byte("through"), 0o644))
	for file, want := range map[string]string{"/etc/pve/abs": "out", "/etc/pve/rel": "out", "/etc/pve/own": "through"} {
		got, err := tree.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	_, err := tree.Stat("/etc/pve/hidden")
	require.Equal(t, syscall.ENOENT, errno(err))
	require.Equal(t, syscall.EXDEV, errno(tree.Rename("/outside", "/etc/pve/moved")))
	require.Equal(t, syscall.EBUSY, errno(tree.Remove("/etc/pve")))
	require.NoError(t, tree.Unmount("/etc/pve"))
	got, err := tree.ReadFile("/etc/pve/hidden")
	require.NoError(t, err)
	require.Equal(t, "below", string(got))
	require.Error(t, tree.Unmount("/etc/pve"))
}

func TestOpenFlags(t *testing.T) {
	tree, _ := newTree()
	_, err := tree.Open("/f", os.O_RDONLY, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	f, err := tree.Open("/f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	require.NoError(t, err)
	_, err = io.WriteString(f, "one")
	require.NoError(t, err)
	_, err = f.Read(make([]byte, 1))
	require.Equal(t, syscall.EBADF, errno(err))
	_, err = tree.Open("/f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoError(t, tree.Symlink("nowhere", "/dangling"))
	_, err = tree.Open("/dangling", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	require.ErrorIs(t, err, fs.ErrExist, "O_EXCL does not follow links")
	for _, text := range []string{"two", "three"} {
		a, err := tree.Open("/f", os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		_, err = io.WriteString(a, text)
		require.NoError(t, err)
	}
	content, err := tree.ReadFile("/f")
	require.NoError(t, err)
	require.Equal(t, "onetwothree", string(content))
	info, err := tree.Stat("/f")
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), info.Mode, "the umask is taken off")
	require.Equal(t, epoch, info.ModTime)
	require.NoError(t, tree.Mkdir("/d", 0o755))
	_, err = tree.Open("/d", os.O_WRONLY, 0)
	require.Equal(t, syscall.EISDIR, errno(err))
	_, err = tree.Open("/f/x", os.O_WRONLY|os.O_CREATE, 0o644)
	require.Equal(t, syscall.ENOTDIR, errno(err))
}

func TestUsersAreKeptOut(t *testing.T) {
	tree, _ := newTree()
	require.NoError(t, tree.Mkdir("/root", 0o700))
	require.NoError(t, tree.WriteFile("/root/secret", nil, 0o644))
	require.NoError(t, tree.WriteFile("/readable", []byte("x"), 0o644))
	require.NoError(t, tree.WriteFile("/group", []byte("x"), 0o640))
	require.NoError(t, tree.Chown("/group", 0, 50))
	require.NoError(t, tree.Mkdir("/tmp", 0o777))
	require.NoError(t, tree.Chmod("/tmp", 0o777|fs.ModeSticky))
	require.NoError(t, tree.WriteFile("/tmp/roots", nil, 0o666))
	user := tree.As(1000, 1000, 50)
	for _, c := range []struct {
		what string
		err  error
		want syscall.Errno
	}{
		{"enter a closed folder", second(user.Stat("/root/secret")), syscall.EACCES},
		{"read for all", second(user.ReadFile("/readable")), 0},
		{"read by group", second(user.ReadFile("/group")), 0},
		{"read by another group", second(tree.As(1000, 1000).ReadFile("/group")), syscall.EACCES},
		{"write", user.WriteFile("/readable", nil, 0), syscall.EACCES},
		{"create in a closed folder", user.WriteFile("/new", nil, 0o644), syscall.EACCES},
		{"create in an open one", user.WriteFile("/tmp/mine", nil, 0o644), 0},
		{"remove another's in a sticky folder", user.Remove("/tmp/roots"), syscall.EPERM},
		{"change another's mode", user.Chmod("/readable", 0o666), syscall.EPERM},
		{"give away", user.Chown("/tmp/mine", 0, 0), syscall.EPERM},
		{"change the own mode", user.Chmod("/tmp/mine", 0o600), 0},
		{"remove the own", user.Remove("/tmp/mine"), 0},
	} {
		require.Equal(t, c.want, errno(c.err), c.what)
	}
	require.NoError(t, user.WriteFile("/tmp/owned", nil, 0o644))
	info, err := tree.Stat("/tmp/owned")
	require.NoError(t, err)
	require.Equal(t, [2]int{1000, 1000}, [2]int{info.UID, info.GID})
}

func second[T any](_ T, err error) error { return err }

func TestFullAndReadOnlyFileSystems(t *testing.T) {
	tree, mem := newTree()
	mem.SetLimit(10)
	require.NoError(t, tree.WriteFile("/a", []byte("123456"), 0o644))
	err := tree.WriteFile("/b", []byte("1234567"), 0o644)
	require.ErrorIs(t, err, syscall.ENOSPC)
	content, err := tree.ReadFile("/b")
	require.NoError(t, err)
	require.Equal(t, "1234", string(content), "what fits is written")
	require.NoError(t, tree.Remove("/b"))
	require.NoError(t, tree.WriteFile("/a", []byte("1234567890"), 0o644))
	used, limit := mem.Usage()
	require.Equal(t, [2]int64{10, 10}, [2]int64{used, limit})
	require.NoError(t, tree.Link("/a", "/c"))
	require.NoError(t, tree.Remove("/a"))
	used, _ = mem.Usage()
	require.EqualValues(t, 10, used, "a second name keeps the content")
	require.NoError(t, tree.Remove("/c"))
	used, _ = mem.Usage()
	require.Zero(t, used)
	mem.SetReadOnly(true)
	require.Equal(t, syscall.EROFS, errno(tree.WriteFile("/x", nil, 0o644)))
	require.Equal(t, syscall.EROFS, errno(tree.Mkdir("/x", 0o755)))
}

func TestFaultsAndAudit(t *testing.T) {
	tree, _ := newTree()
	var log []string
	tree.OnMutation(func(m vfs.Mutation) {
		log = append(log, strings.TrimSpace(fmt.Sprintf("%v %s %s %s", m.Actor, m.Op, m.Path, m.To)))
	})
	view := tree.As(0)
	view.Actor = "me"
	require.NoError(t, view.Mkdir("/d", 0o755))
	require.NoError(t, view.WriteFile("/d/f", []byte("x"), 0o644))
	require.NoError(t, view.Symlink("d", "/l"))
	require.NoError(t, view.Chmod("/l/f", 0o600))
	require.NoError(t, view.Rename("/l/f", "/g"))
	require.NoError(t, view.Remove("/g"))
	_, err := view.ReadDir("/d")
	require.NoError(t, err)
	require.Equal(t, []string{"me mkdir /d", "me create /d/f", "me write /d/f", "me symlink /l", "me chmod /d/f", "me rename /d/f /g", "me remove /g"}, log)

	tree.SetFaults(vfs.Fault{Ask: func(ctx context.Context, op vfs.Op, path string) error {
		switch {
		case path == "/hang":
			<-ctx.Done()
			return syscall.EIO
		case op == vfs.OpCreate:
			return syscall.EACCES
		}
		return nil
	}})
	require.Equal(t, syscall.EACCES, errno(tree.WriteFile("/new", nil, 0o644)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	view.Ctx = ctx
	_, err = view.ReadFile("/hang")
	require.Equal(t, syscall.EIO, errno(err))
	tree.SetFaults()
	require.NoError(t, tree.WriteFile("/new", nil, 0o644))
}

func TestGeneratedFilesAndDevices(t *testing.T) {
	tree, mem := newTree()
	n := 0
	require.NoError(t, mem.Generate("/proc/count", 0o444, func() []byte { n++; return fmt.Append(nil, n) }))
	for _, want := range []string{"1", "2"} {
		got, err := tree.ReadFile("/proc/count")
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.Equal(t, syscall.EACCES, errno(tree.WriteFile("/proc/count", nil, 0)))
	shared := []byte("seed")
	require.NoError(t, mem.Seed("/etc/seed", 0o600, shared))
	f, err := tree.Open("/etc/seed", os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.(io.WriterAt).WriteAt([]byte("X"), 0)
	require.NoError(t, err)
	require.Equal(t, "seed", string(shared), "shared content is copied before it is changed")
}

func TestConcurrentUse(t *testing.T) {
	tree, _ := newTree()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				file := fmt.Sprintf("/d%d/f", j%3)
				_ = tree.MkdirAll(path.Dir(file), 0o755) // others remove it at the same time
				_ = tree.WriteFile(file, []byte{byte(i)}, 0o644)
				_, _ = tree.ReadFile(file)
				_ = tree.Rename(file, "/moved")
				_ = tree.RemoveAll(path.Dir(file))
			}
		})
	}
	wg.Wait()
	_, err := tree.ReadDir("/")
	require.NoError(t, err)
}

// model is a file system as a plain map: path to content, and nil for folders.
type model map[string]*string

func (m model) dir(p string) bool {
	if p == "/" {
		return true
	}
	content, ok := m[p]
	return ok && content == nil
}

func (m model) below(p string) []string {
	var list []string
	for other := range m {
		if strings.HasPrefix(other, strings.TrimRight(p, "/")+"/") {
			list = append(list, other)
		}
	}
	return list
}

// parentProblem is what the kernel says of a path whose folder is not there.
func (m model) parentProblem(p string) syscall.Errno {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if content, ok := m[dir]; ok && content != nil {
			return syscall.ENOTDIR
		}
		if dir == "/" {
			break
		}
	}
	if !m.dir(path.Dir(p)) {
		return syscall.ENOENT
	}
	return 0
}

func (m model) write(p, content string) syscall.Errno {
	if no := m.parentProblem(p); no != 0 {
		return no
	}
	if m.dir(p) {
		return syscall.EISDIR
	}
	m[p] = &content
	return 0
}

func (m model) mkdir(p string) syscall.Errno {
	if no := m.parentProblem(p); no != 0 {
		return no
	}
	if _, ok := m[p]; ok {
		return syscall.EEXIST
	}
	m[p] = nil
	return 0
}

func (m model) remove(p string) syscall.Errno {
	if no := m.parentProblem(p); no != 0 {
		return no
	}
	if _, ok := m[p]; !ok {
		return syscall.ENOENT
	}
	if len(m.below(p)) > 0 {
		return syscall.ENOTEMPTY
	}
	delete(m, p)
	return 0
}

func (m model) rename(from, to string) syscall.Errno {
	if no := m.parentProblem(from); no != 0 {
		return no
	}
	content, ok := m[from]
	if !ok {
		return syscall.ENOENT
	}
	if no := m.parentProblem(to); no != 0 {
		return no
	}
	target, exists := m[to]
	switch {
	case from == to:
		return 0
	case content == nil && strings.HasPrefix(to, from+"/"):
		return syscall.EINVAL
	case exists && target == nil && content != nil:
		return syscall.EISDIR
	case exists && target != nil && content == nil:
		return syscall.ENOTDIR
	case exists && len(m.below(to)) > 0:
		return syscall.ENOTEMPTY
	}
	for _, p := range m.below(from) {
		m[to+strings.TrimPrefix(p, from)] = m[p]
		delete(m, p)
	}
	delete(m, from)
	m[to] = content
	return 0
}

func (m model) list(p string) []string {
	var names []string
	for other := range m {
		if path.Dir(other) == p {
			names = append(names, path.Base(other))
		}
	}
	slices.Sort(names)
	return names
}

func TestMemoryFileSystemIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, mem := newTree()
		m := model{}
		name := rapid.Custom(func(t *rapid.T) string {
			parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, "parts")
			return "/" + strings.Join(parts, "/")
		})
		same := func(what string, want syscall.Errno, err error) {
			if errno(err) != want {
				t.Fatalf("%s: want %v, got %v", what, want, err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				p, content := name.Draw(t, "path"), rapid.StringN(0, 5, -1).Draw(t, "content")
				same("write "+p, m.write(p, content), tree.WriteFile(p, []byte(content), 0o644))
			},
			"mkdir": func(t *rapid.T) {
				p := name.Draw(t, "path")
				same("mkdir "+p, m.mkdir(p), tree.Mkdir(p, 0o755))
			},
			"remove": func(t *rapid.T) {
				p := name.Draw(t, "path")
				same("remove "+p, m.remove(p), tree.Remove(p))
			},
			"rename": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				same("rename "+from+" "+to, m.rename(from, to), tree.Rename(from, to))
			},
			"": func(t *rapid.T) {
				total := int64(0)
				for p, content := range m {
					if content == nil {
						list, err := tree.ReadDir(p)
						require.NoError(t, err)
						names := make([]string, len(list))
						for i := range list {
							names[i] = list[i].Name
						}
						require.Equal(t, append([]string{}, m.list(p)...), names)
						continue
					}
					got, err := tree.ReadFile(p)
					require.NoError(t, err)
					require.Equal(t, *content, string(got))
					total += int64(len(*content))
				}
				used, _ := mem.Usage()
				require.Equal(t, total, used)
				list, err := tree.ReadDir("/")
				require.NoError(t, err)
				require.Len(t, list, len(m.list("/")))
			},
		})
	})
}

func FuzzResolve(f *testing.F) {
	for _, p := range []string{"/a/b", "a/../b", "/l/l/x", "//", "/a/./", "..", "/l/..", "\x00", "/f/..", "/f/x", "/f/", "/a/m/in/file", "/a/m/../b", "/l/m/in", "/a/m/no", "/no", "/no/no", "/a/m/in/file/x"} {
		f.Add(p)
	}
	tree, _ := newTree()
	require.NoError(f, tree.MkdirAll("/a/b", 0o755))
	require.NoError(f, tree.WriteFile("/f", nil, 0o644))
	require.NoError(f, tree.Symlink("a/../l2", "/l"))
	require.NoError(f, tree.Symlink("/a/b/..", "/l2"))
	other := vfs.NewMem(time.Now)
	require.NoError(f, other.Seed("/in/file", 0o644, []byte("x")))
	require.NoError(f, tree.Mount("/a/m", other))
	slow := vfs.NewTree(tree.Mounted("/"))
	require.NoError(f, slow.Mount("/a/m", other))
	slow.SetFaults(vfs.Fault{Ask: func(context.Context, vfs.Op, string) error { return nil }})
	f.Fuzz(func(t *testing.T, p string) {
		info, err := tree.Stat(p)
		step, stepErr := slow.Stat(p)
		require.Equal(t, stepErr, err, "a path is walked at once as it is step by step")
		require.Equal(t, step, info)
		place, err1 := tree.Realpath(p, true)
		stepPlace, err2 := slow.Realpath(p, true)
		require.Equal(t, err2, err1)
		require.Equal(t, stepPlace, place)
		if err != nil {
			var pe *fs.PathError
			require.True(t, errors.As(err, &pe))
			return
		}
		real, err := tree.Realpath(p, false)
		require.NoError(t, err)
		again, err := tree.Lstat(real)
		require.NoError(t, err)
		require.Equal(t, info.Mode, again.Mode, "a real path leads to the same thing without links")
	})
}
