package pattern

// classes are the character classes of the C locale, by their letter.
var classes = map[byte]func(b byte) bool{
	'a': letter,
	'c': func(b byte) bool { return b < ' ' || b == 127 },
	'd': digit,
	'l': func(b byte) bool { return 'a' <= b && b <= 'z' },
	'p': func(b byte) bool { return '!' <= b && b <= '~' && !letter(b) && !digit(b) },
	's': func(b byte) bool { return b == ' ' || '\t' <= b && b <= '\r' },
	'u': func(b byte) bool { return 'A' <= b && b <= 'Z' },
	'w': func(b byte) bool { return letter(b) || digit(b) },
	'x': func(b byte) bool { return digit(b) || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' },
	'z': func(b byte) bool { return b == 0 },
}

func letter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }
func digit(b byte) bool  { return '0' <= b && b <= '9' }

// sets are the classes and, under their capitals, their opposites.
var sets = func() map[byte]set {
	all := map[byte]set{}
	for name, is := range classes {
		var s set
		for b := range 256 {
			if is(byte(b)) {
				s.add(byte(b))
			}
		}
		all[name] = s
		s.invert()
		all[name-'a'+'A'] = s
	}
	return all
}()

// class is what % and a character stand for: a class, or the character itself.
func class(b byte) set {
	if s, ok := sets[b]; ok {
		return s
	}
	var s set
	s.add(b)
	return s
}
