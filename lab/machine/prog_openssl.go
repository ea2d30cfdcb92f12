package machine

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a fingerprint that scripts may ask for
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// opensslPrograms are the parts of openssl that administrators use in scripts.
func opensslPrograms() map[string]Program { return map[string]Program{"openssl": runOpenssl} }

func runOpenssl(_ context.Context, p *Proc) int {
	args := p.Args()
	if len(args) == 0 {
		return p.Fail(1, "no command given")
	}
	switch args[0] {
	case "version":
		p.Println("OpenSSL 3.5.1 1 Jul 2025 (Library: OpenSSL 3.5.1 1 Jul 2025)")
		return 0
	case "rand":
		return p.opensslRand(args[1:])
	case "x509":
		return p.opensslX509(args[1:])
	case "dgst", "sha256":
		return p.opensslDigest(args[1:])
	}
	fmt.Fprintf(p.Stderr, "Invalid command '%s'; type \"help\" for a list.\n", args[0])
	return 1
}

func (p *Proc) opensslRand(args []string) int {
	n, encode := 0, func(b []byte) string { return string(b) }
	for _, arg := range args {
		switch arg {
		case "-hex":
			encode = func(b []byte) string { return hex.EncodeToString(b) + "\n" }
		case "-base64":
			encode = func(b []byte) string { return base64.StdEncoding.EncodeToString(b) + "\n" }
		default:
			var err error
			if n, err = strconv.Atoi(arg); err != nil || n < 0 || n > 1<<20 {
				return p.Fail(1, "rand: bad number %s", arg)
			}
		}
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	io.WriteString(p.Stdout, encode(b))
	return 0
}

// opensslX509 prints facts of a certificate in the order in which they are asked for.
func (p *Proc) opensslX509(args []string) int {
	path, check := "-", time.Duration(-1)
	sum := func(b []byte) (string, []byte) { s := sha1.Sum(b); return "sha1", s[:] }
	var show []string
	noout := false
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-in":
			if i+1 < len(args) {
				i++
				path = args[i]
			}
		case "-noout":
			noout = true
		case "-sha256":
			sum = func(b []byte) (string, []byte) { s := sha256.Sum256(b); return "sha256", s[:] }
		case "-checkend":
			if i+1 < len(args) {
				i++
				n, err := strconv.Atoi(args[i])
				if err != nil {
					return p.Fail(1, "x509: bad number %s", args[i])
				}
				check = time.Duration(n) * time.Second
			}
		case "-inform", "-outform", "-nameopt":
			i++
		default:
			show = append(show, args[i])
		}
	}
	content, err := p.ReadInput(path)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Could not open file or uri for loading certificate from %s: %s\nUnable to load certificate\n", path, Reason(err))
		return 1
	}
	block, _ := pem.Decode(content)
	if block == nil {
		fmt.Fprintf(p.Stderr, "Could not find certificate from %s\n", path)
		return 1
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Could not read certificate from %s\nUnable to load certificate\n", path)
		return 1
	}
	for _, what := range show {
		p.showCertificate(what, cert, sum)
	}
	if check >= 0 {
		if cert.NotAfter.Before(p.Machine.Now().Add(check)) {
			p.Println("Certificate will expire")
			return 1
		}
		p.Println("Certificate will not expire")
		return 0
	}
	if !noout {
		if err := pem.Encode(p.Stdout, block); err != nil {
			return 1
		}
	}
	return 0
}

func (p *Proc) showCertificate(what string, cert *x509.Certificate, sum func([]byte) (string, []byte)) {
	const layout = "Jan _2 15:04:05 2006 GMT"
	switch what {
	case "-fingerprint":
		name, digest := sum(cert.Raw)
		parts := make([]string, len(digest))
		for i, b := range digest {
			parts[i] = fmt.Sprintf("%02X", b)
		}
		p.Println(name + " Fingerprint=" + strings.Join(parts, ":"))
	case "-enddate":
		p.Println("notAfter=" + cert.NotAfter.UTC().Format(layout))
	case "-startdate":
		p.Println("notBefore=" + cert.NotBefore.UTC().Format(layout))
	case "-dates":
		p.Println("notBefore=" + cert.NotBefore.UTC().Format(layout) + "\nnotAfter=" + cert.NotAfter.UTC().Format(layout))
	case "-subject":
		p.Println("subject=" + opensslName(cert.Subject.String()))
	case "-issuer":
		p.Println("issuer=" + opensslName(cert.Issuer.String()))
	case "-serial":
		p.Printf("serial=%X\n", cert.SerialNumber)
	}
}

// opensslName writes a distinguished name in the order of the certificate.
func opensslName(name string) string {
	parts := strings.Split(name, ",")
	slices.Reverse(parts)
	return strings.Join(parts, ", ")
}

func (p *Proc) opensslDigest(args []string) int {
	var paths []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			paths = append(paths, arg)
		}
	}
	return boolStatus(p.inputs(paths, func(name string, content []byte) {
		sum := sha256.Sum256(content)
		if name == "-" {
			name = "stdin"
		}
		p.Printf("SHA2-256(%s)= %x\n", cmp.Or(name, "stdin"), sum)
	}))
}
