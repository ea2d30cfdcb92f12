package machine

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
)

// errMode is a mode that cannot be understood.
var errMode = errors.New("invalid mode")

// parseMode reads chmod's MODE, octal or symbolic, applied to an old mode.
func parseMode(text string, old fs.FileMode, dir bool, umask fs.FileMode) (fs.FileMode, error) {
	if n, err := strconv.ParseUint(text, 8, 32); err == nil {
		if n > 0o7777 {
			return 0, errMode
		}
		return unixMode(uint32(n)), nil
	}
	return symbolicMode(text, old, dir, umask)
}

// unixMode makes an fs.FileMode of permission bits as the kernel numbers them.
func unixMode(n uint32) fs.FileMode {
	m := fs.FileMode(n & 0o777)
	if n&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if n&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if n&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// modeBits is the reverse of unixMode.
func modeBits(m fs.FileMode) uint32 {
	n := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		n |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return n
}

func symbolicMode(text string, old fs.FileMode, dir bool, umask fs.FileMode) (fs.FileMode, error) {
	bits := modeBits(old)
	for clause := range strings.SplitSeq(text, ",") {
		i := strings.IndexAny(clause, "+-=")
		if i < 0 {
			return 0, errMode
		}
		who, err := whoMask(clause[:i])
		if err != nil {
			return 0, err
		}
		allowed := who
		if who == 0 {
			who, allowed = 0o7777, 0o7777&^uint32(umask)
		}
		for rest := clause[i:]; rest != ""; {
			op := rest[0]
			end := strings.IndexAny(rest[1:], "+-=")
			perms := rest[1:]
			if end >= 0 {
				perms = rest[1 : end+1]
			}
			rest = rest[1+len(perms):]
			value, err := permBits(perms, bits, dir)
			if err != nil {
				return 0, err
			}
			value &= allowed
			switch op {
			case '+':
				bits |= value
			case '-':
				bits &^= value
			case '=':
				bits = bits&^(who&0o777) | value
			}
		}
	}
	return unixMode(bits), nil
}

func whoMask(who string) (uint32, error) {
	mask := uint32(0)
	for _, c := range who {
		switch c {
		case 'u':
			mask |= 0o4700
		case 'g':
			mask |= 0o2070
		case 'o':
			mask |= 0o1007
		case 'a':
			mask |= 0o7777
		default:
			return 0, errMode
		}
	}
	return mask, nil
}

func permBits(perms string, old uint32, dir bool) (uint32, error) {
	value := uint32(0)
	for _, c := range perms {
		switch c {
		case 'r':
			value |= 0o444
		case 'w':
			value |= 0o222
		case 'x':
			value |= 0o111
		case 'X':
			if dir || old&0o111 != 0 {
				value |= 0o111
			}
		case 's':
			value |= 0o6000
		case 't':
			value |= 0o1000
		case 'u':
			value |= (old >> 6 & 7) * 0o111
		case 'g':
			value |= (old >> 3 & 7) * 0o111
		case 'o':
			value |= (old & 7) * 0o111
		default:
			return 0, errMode
		}
	}
	return value, nil
}
