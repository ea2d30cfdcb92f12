package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// condition evaluates the arguments of test by the rules of POSIX: the number of arguments decides first, and longer
// expressions are parsed with -a, -o, ! and parentheses.
type condition struct {
	args []string
	view *vfs.View
	tty  func(fd int) bool
}

// evalTest runs test or [ with all of its arguments, the name included.
func evalTest(argv []string, view *vfs.View, tty func(int) bool) (bool, error) {
	args := argv[1:]
	if argv[0] == "[" || strings.HasSuffix(argv[0], "/[") {
		if len(args) == 0 || args[len(args)-1] != "]" {
			return false, errors.New("missing ]")
		}
		args = args[:len(args)-1]
	}
	c := &condition{args: args, view: view, tty: tty}
	return c.eval(args)
}

func (c *condition) eval(args []string) (bool, error) {
	switch len(args) {
	case 0:
		return false, nil
	case 1:
		return args[0] != "", nil
	case 2:
		if args[0] == "!" {
			return args[1] == "", nil
		}
		if isUnary(args[0]) {
			return c.unary(args[0], args[1])
		}
		if isBinary(args[1]) {
			return false, fmt.Errorf("%s: argument expected", args[1])
		}
		return false, fmt.Errorf("%s: unexpected operator", args[0])
	case 3:
		if isBinary(args[1]) {
			return c.binary(args[0], args[1], args[2])
		}
		if args[0] == "!" {
			ok, err := c.eval(args[1:])
			return !ok, err
		}
		if args[0] == "(" && args[2] == ")" {
			return args[1] != "", nil
		}
	case 4:
		if args[0] == "!" {
			ok, err := c.eval(args[1:])
			return !ok, err
		}
		if args[0] == "(" && args[3] == ")" {
			return c.eval(args[1:3])
		}
	}
	return c.expression(args)
}

// expression parses the general form.
func (c *condition) expression(args []string) (bool, error) {
	rest := args
	ok, err := c.or(&rest)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%s: unexpected operator", rest[0])
	}
	return ok, err
}

func (c *condition) or(rest *[]string) (bool, error) {
	ok, err := c.and(rest)
	for err == nil && len(*rest) > 0 && (*rest)[0] == "-o" {
		*rest = (*rest)[1:]
		var more bool
		more, err = c.and(rest)
		ok = ok || more
	}
	return ok, err
}

func (c *condition) and(rest *[]string) (bool, error) {
	ok, err := c.not(rest)
	for err == nil && len(*rest) > 0 && (*rest)[0] == "-a" {
		*rest = (*rest)[1:]
		var more bool
		more, err = c.not(rest)
		ok = ok && more
	}
	return ok, err
}

func (c *condition) not(rest *[]string) (bool, error) {
	r := *rest
	if len(r) == 0 {
		return false, errors.New("argument expected")
	}
	if r[0] == "!" && len(r) > 1 {
		*rest = r[1:]
		ok, err := c.not(rest)
		return !ok, err
	}
	if len(r) >= 3 && isBinary(r[1]) && r[1] != "-a" && r[1] != "-o" {
		*rest = r[3:]
		return c.binary(r[0], r[1], r[2])
	}
	if r[0] == "(" {
		*rest = r[1:]
		ok, err := c.or(rest)
		if err == nil && (len(*rest) == 0 || (*rest)[0] != ")") {
			return false, errors.New("closing paren expected")
		}
		if err == nil {
			*rest = (*rest)[1:]
		}
		return ok, err
	}
	if len(r) >= 2 && isUnary(r[0]) {
		*rest = r[2:]
		return c.unary(r[0], r[1])
	}
	*rest = r[1:]
	return r[0] != "", nil
}

func isUnary(op string) bool {
	return len(op) == 2 && op[0] == '-' && strings.IndexByte("bcdefghkLnOGprSstuwxz", op[1]) >= 0
}

func isBinary(op string) bool {
	switch op {
	case "=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef", "-a", "-o":
		return true
	}
	return false
}

func (c *condition) unary(op, arg string) (bool, error) {
	switch op {
	case "-n":
		return arg != "", nil
	case "-z":
		return arg == "", nil
	case "-t":
		fd, err := number(arg)
		return err == nil && c.tty(int(fd)), err
	case "-h", "-L":
		i, err := c.view.Lstat(arg)
		return err == nil && i.Mode&fs.ModeSymlink != 0, nil
	}
	if fd, ok := descriptorNumber(arg); ok && fd < 3 {
		return op == "-e" || op == "-r" || op == "-w" || op == "-p", nil
	}
	i, err := c.view.Stat(arg)
	if err != nil {
		return false, nil
	}
	switch op {
	case "-e":
		return true, nil
	case "-f":
		return i.Mode.IsRegular(), nil
	case "-d":
		return i.Mode.IsDir(), nil
	case "-s":
		return i.Size > 0, nil
	case "-b":
		return i.Mode&fs.ModeDevice != 0 && i.Mode&fs.ModeCharDevice == 0, nil
	case "-c":
		return i.Mode&fs.ModeCharDevice != 0, nil
	case "-p":
		return i.Mode&fs.ModeNamedPipe != 0, nil
	case "-S":
		return i.Mode&fs.ModeSocket != 0, nil
	case "-u":
		return i.Mode&fs.ModeSetuid != 0, nil
	case "-g":
		return i.Mode&fs.ModeSetgid != 0, nil
	case "-k":
		return i.Mode&fs.ModeSticky != 0, nil
	case "-O":
		return i.UID == c.view.UID, nil
	case "-G":
		return len(c.view.GIDs) > 0 && i.GID == c.view.GIDs[0] || i.GID == 0 && c.view.UID == 0, nil
	case "-r":
		return c.view.Access(arg, 4) == nil, nil
	case "-w":
		return c.view.Access(arg, 2) == nil, nil
	case "-x":
		return c.view.Access(arg, 1) == nil, nil
	}
	return false, fmt.Errorf("%s: unexpected operator", op)
}

func (c *condition) binary(left, op, right string) (bool, error) {
	switch op {
	case "=", "==":
		return left == right, nil
	case "!=":
		return left != right, nil
	case "<":
		return left < right, nil
	case ">":
		return left > right, nil
	case "-a":
		return left != "" && right != "", nil
	case "-o":
		return left != "" || right != "", nil
	case "-nt", "-ot", "-ef":
		return c.files(left, op, right)
	}
	a, err := number(left)
	if err != nil {
		return false, err
	}
	b, err := number(right)
	if err != nil {
		return false, err
	}
	switch op {
	case "-eq":
		return a == b, nil
	case "-ne":
		return a != b, nil
	case "-lt":
		return a < b, nil
	case "-le":
		return a <= b, nil
	case "-gt":
		return a > b, nil
	default:
		return a >= b, nil
	}
}

func (c *condition) files(left, op, right string) (bool, error) {
	a, errA := c.view.Stat(left)
	b, errB := c.view.Stat(right)
	switch op {
	case "-nt":
		return errA == nil && (errB != nil || a.ModTime.After(b.ModTime)), nil
	case "-ot":
		return errB == nil && (errA != nil || a.ModTime.Before(b.ModTime)), nil
	}
	pa, errA := c.view.Realpath(left, false)
	pb, errB := c.view.Realpath(right, false)
	return errA == nil && errB == nil && pa == pb, nil
}

func number(text string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Illegal number: %s", text)
	}
	return n, nil
}
