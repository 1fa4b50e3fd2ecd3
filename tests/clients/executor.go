// The executors of client-go against `pod-server`; built and run by tests/clients/executor.
//
// Prints a line a check, and ends with `executor: P passed, F failed`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	mib = 1 << 20
	// Longer than any command here takes, unless it hangs.
	patience = 60 * time.Second
)

var protocols = []string{
	"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io",
}

// The server under test.
type pod struct{ server *url.URL }

// Returns the configuration of a client, and the address of a command.
func (p pod) exec(options remotecommand.StreamOptions, command ...string) (*rest.Config, *url.URL) {
	query := url.Values{"container": {"main"}, "command": command}
	for name, wanted := range map[string]bool{
		"stdin": options.Stdin != nil, "stdout": options.Stdout != nil,
		"stderr": options.Stderr != nil, "tty": options.Tty,
	} {
		query.Set(name, strconv.FormatBool(wanted))
	}
	target := *p.server
	target.Path = "/api/v1/namespaces/default/pods/demo/exec"
	target.RawQuery = query.Encode()
	return &rest.Config{Host: p.server.String()}, &target
}

// Makes an executor for a command.
type maker func(*rest.Config, *url.URL) (remotecommand.Executor, error)

func overSpdy(config *rest.Config, target *url.URL) (remotecommand.Executor, error) {
	return remotecommand.NewSPDYExecutor(config, "POST", target)
}

// Offers these protocols only.
func offering(protocols ...string) maker {
	return func(config *rest.Config, target *url.URL) (remotecommand.Executor, error) {
		transport, upgrader, err := spdy.RoundTripperFor(config)
		if err != nil {
			return nil, err
		}
		return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", target, protocols...)
	}
}

// Prefers WebSocket, as kubectl does.
func preferringWebSocket(config *rest.Config, target *url.URL) (remotecommand.Executor, error) {
	first, err := remotecommand.NewWebSocketExecutor(config, "GET", target.String())
	if err != nil {
		return nil, err
	}
	second, err := overSpdy(config, target)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(first, second, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// Runs a command until it ends, or until it should have.
func (p pod) run(make maker, options remotecommand.StreamOptions, command ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.runFor(ctx, make, options, command...)
}

func (p pod) runFor(ctx context.Context, make maker, options remotecommand.StreamOptions, command ...string) error {
	executor, err := make(p.exec(options, command...))
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, options)
}

// Bytes that another goroutine writes. A regular expression waits for them.
type output struct {
	lock  sync.Mutex
	bytes bytes.Buffer
	rest  time.Duration // in front of each write
}

func (o *output) Write(data []byte) (int, error) {
	time.Sleep(o.rest)
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.bytes.Write(data)
}

func (o *output) String() string {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.bytes.String()
}

func (o *output) hear(pattern string) (string, error) {
	expression := regexp.MustCompile(pattern)
	var found string
	heard := until(patience, func() bool {
		found = expression.FindString(o.String())
		return found != ""
	})
	if !heard {
		return "", fmt.Errorf("%s was not printed: %.200q", pattern, o.String())
	}
	return found, nil
}

func until(limit time.Duration, holds func() bool) bool {
	deadline := time.Now().Add(limit)
	for !holds() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// Each check returns what to add to its line, or why it failed.

func code(err error, wanted int) error {
	var exited exec.CodeExitError
	if !errors.As(err, &exited) {
		return fmt.Errorf("ended with %v, wanted exit code %d", err, wanted)
	}
	if exited.Code != wanted {
		return fmt.Errorf("exit code %d, wanted %d", exited.Code, wanted)
	}
	return nil
}

func (p pod) apart(make maker) error {
	var out, err output
	options := remotecommand.StreamOptions{Stdout: &out, Stderr: &err}
	ended := p.run(make, options, "sh", "-c", "echo to-out; echo to-err >&2; exit 17")
	if out.String() != "to-out\n" || err.String() != "to-err\n" {
		return fmt.Errorf("stdout %q, stderr %q, end %v", out.String(), err.String(), ended)
	}
	return code(ended, 17)
}

func (p pod) exitBehindOutput() (string, error) {
	const times = 200
	for one := range times {
		if err := p.apart(overSpdy); err != nil {
			return "", fmt.Errorf("in run %d: %w", one, err)
		}
	}
	return fmt.Sprintf("%d times", times), nil
}

func (p pod) success() (string, error) {
	var out output
	err := p.run(overSpdy, remotecommand.StreamOptions{Stdout: &out}, "true")
	return "", err
}

func (p pod) echo(make maker, size int) error {
	sent, back := random(size), output{}
	options := remotecommand.StreamOptions{Stdin: bytes.NewReader(sent), Stdout: &back, Stderr: &back}
	if err := p.run(make, options, "cat"); err != nil {
		return err
	}
	if got := back.bytes.Bytes(); !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes back of %d, or others", len(got), len(sent))
	}
	return nil
}

// The name of a protocol alone decides in which form the exit code is told. Before v4 it is
// a text; a client of v1 does not wait for it, and has no end of stdin.
func (p pod) eachProtocol() (string, error) {
	for _, name := range protocols {
		var out output
		options := remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard}
		err := p.run(offering(name), options, "sh", "-c", "echo hi; exit 17")
		if out.String() != "hi\n" {
			return "", fmt.Errorf("%s: stdout %q, end %v", name, out.String(), err)
		}
		switch name {
		case "v4.channel.k8s.io":
			err = code(err, 17)
		case "channel.k8s.io":
			if err == nil || strings.Contains(err.Error(), "17") {
				continue
			}
		default:
			if err != nil && strings.Contains(err.Error(), "17") {
				err = p.echo(offering(name), mib)
			} else {
				err = fmt.Errorf("the exit code is not in %v", err)
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return strings.Join(protocols, ", "), nil
}

func (p pod) notV5() (string, error) {
	err := p.run(offering("v5.channel.k8s.io"), remotecommand.StreamOptions{Stdout: io.Discard}, "true")
	if err == nil || !strings.Contains(err.Error(), "unable to upgrade connection") {
		return "", fmt.Errorf("ended with %v", err)
	}
	return err.Error(), nil
}

func (p pod) refused() (string, error) {
	wrong := func(config *rest.Config, target *url.URL) (remotecommand.Executor, error) {
		target.Path = strings.Replace(target.Path, "demo", "nobody", 1)
		return overSpdy(config, target)
	}
	err := p.run(wrong, remotecommand.StreamOptions{Stdout: io.Discard}, "true")
	if err == nil || !strings.Contains(err.Error(), "nobody") {
		return "", fmt.Errorf("ended with %v", err)
	}
	return err.Error(), nil
}

// Both outputs at once, each with more than every buffer on the way.
func (p pod) massive() (string, error) {
	const size = 64 * mib
	var out, err counter
	options := remotecommand.StreamOptions{Stdout: &out, Stderr: &err}
	script := fmt.Sprintf("head -c %d /dev/zero >&2 & head -c %d /dev/zero; wait; exit 3", size, size)
	if err := code(p.run(overSpdy, options, "sh", "-c", script), 3); err != nil {
		return "", err
	}
	if out != size || err != size {
		return "", fmt.Errorf("%d and %d bytes, of %d", out, err, size)
	}
	return "", nil
}

// The command has ended long before its output is read.
func (p pod) slowReader() (string, error) {
	const size = 4 * mib
	out := output{rest: 25 * time.Millisecond}
	options := remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard}
	script := fmt.Sprintf("head -c %d /dev/zero; exit 4", size)
	if err := code(p.run(overSpdy, options, "sh", "-c", script), 4); err != nil {
		return "", err
	}
	if got := len(out.String()); got != size {
		return "", fmt.Errorf("%d bytes, of %d", got, size)
	}
	return "", nil
}

func (p pod) endlessStdin(script string) error {
	options := remotecommand.StreamOptions{Stdin: zeros{}, Stdout: io.Discard, Stderr: io.Discard}
	return code(p.run(overSpdy, options, "sh", "-c", script), 7)
}

func (p pod) unreadStdin() (string, error) { return "", p.endlessStdin("sleep 2; exit 7") }

func (p pod) closedStdin() (string, error) { return "", p.endlessStdin("exec <&-; sleep 2; exit 7") }

func (p pod) exitWhileStdinFlows() (string, error) {
	for range 20 {
		if err := p.endlessStdin("head -c 1000000 >/dev/null; exit 7"); err != nil {
			return "", err
		}
	}
	return "20 times", nil
}

// The end of a deadline ends the command, whether its output flows or not.
func (p pod) deadline() (string, error) {
	for _, script := range []string{"exec sleep 1000", "exec cat /dev/zero"} {
		var pid output
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		options := remotecommand.StreamOptions{Stdout: io.Discard, Stderr: &pid}
		started := time.Now()
		err := p.runFor(ctx, overSpdy, options, "sh", "-c", "echo $$ >&2; "+script)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 5*time.Second {
			return "", fmt.Errorf("%s ended with %v after %v", script, err, time.Since(started))
		}
		process := "/proc/" + strings.TrimSpace(pid.String())
		gone := until(2*time.Second, func() bool {
			_, err := os.Stat(process)
			return err != nil
		})
		if !gone {
			return "", fmt.Errorf("%s still runs: %s", script, process)
		}
	}
	return "", nil
}

// The sizes of a terminal. The second comes when it is asked for.
type sizes struct {
	next chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	if size, more := <-s.next; more {
		return &size
	}
	return nil
}

func (p pod) terminal() (string, error) {
	var out output
	queue := sizes{make(chan remotecommand.TerminalSize, 2)}
	// One without a size is not one, and must not end anything.
	queue.next <- remotecommand.TerminalSize{}
	queue.next <- remotecommand.TerminalSize{Width: 101, Height: 33}
	stdin, typed := io.Pipe()
	options := remotecommand.StreamOptions{Stdin: stdin, Stdout: &out, Tty: true, TerminalSizeQueue: queue}
	ended := make(chan error, 1)
	script := "stty -echo; while :; do stty size; sleep 0.05; done"
	go func() { ended <- p.run(overSpdy, options, "sh", "-c", script) }()
	for _, size := range []remotecommand.TerminalSize{{}, {Width: 132, Height: 47}} {
		wanted := "33 101"
		if size.Height != 0 {
			wanted = "47 132"
			queue.next <- size
		}
		if _, err := out.hear(wanted); err != nil {
			return "", err
		}
	}
	close(queue.next)
	if _, err := typed.Write([]byte{3}); err != nil {
		return "", err
	}
	select {
	case err := <-ended:
		return "", code(err, 130)
	case <-time.After(patience):
		return "", errors.New("Ctrl-C did not end the command")
	}
}

func (p pod) atOnce() (string, error) {
	const sessions = 50
	failed := make(chan error, sessions)
	for range sessions {
		go func() { failed <- p.echo(overSpdy, mib) }()
	}
	for range sessions {
		if err := <-failed; err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d sessions", sessions), nil
}

// A server in front of another, which may refuse one kind of upgrade.
type front struct {
	backend            string
	refused            string
	webSockets, others atomic.Int32
}

func (f *front) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	upgrade := strings.ToLower(request.Header.Get("Upgrade"))
	if upgrade == "websocket" {
		f.webSockets.Add(1)
	} else {
		f.others.Add(1)
	}
	if f.refused == "both" || upgrade == f.refused {
		http.Error(answer, "this front refuses "+upgrade, http.StatusForbidden)
		return
	}
	backend, err := net.Dial("tcp", f.backend)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadGateway)
		return
	}
	defer backend.Close()
	client, buffered, err := answer.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if err := request.Write(backend); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(backend, buffered)
		_ = backend.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, bufio.NewReader(backend))
}

func (p pod) behind(refused string, run func(pod) error) (*front, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	front := &front{backend: p.server.Host, refused: refused}
	server := &http.Server{Handler: front}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	return front, run(pod{&url.URL{Scheme: "http", Host: listener.Addr().String()}})
}

func counts(front *front, webSockets, others int32) error {
	if w, o := front.webSockets.Load(), front.others.Load(); w != webSockets || o != others {
		return fmt.Errorf("%d requests for WebSocket and %d others, wanted %d and %d", w, o, webSockets, others)
	}
	return nil
}

func (p pod) fallsBack() (string, error) {
	front, err := p.behind("websocket", func(p pod) error {
		if err := p.apart(preferringWebSocket); err != nil {
			return err
		}
		return p.echo(preferringWebSocket, mib)
	})
	if err != nil {
		return "", err
	}
	return "", counts(front, 2, 2)
}

func (p pod) fallsBackForNothing() (string, error) {
	front, err := p.behind("", func(p pod) error { return p.apart(preferringWebSocket) })
	if err != nil {
		return "", err
	}
	return "", counts(front, 1, 0)
}

func (p pod) bothRefused() (string, error) {
	front, err := p.behind("both", func(p pod) error { return p.apart(preferringWebSocket) })
	if err == nil || strings.Contains(err.Error(), "spdy/3.1") {
		return "", counts(front, 1, 1)
	}
	return "", fmt.Errorf("ended with %v", err)
}

// Small parts.

type counter int

func (c *counter) Write(data []byte) (int, error) {
	*c += counter(len(data))
	return len(data), nil
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	return data
}

func main() {
	server, err := url.Parse(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	wanted := regexp.MustCompile(strings.Join(os.Args[2:], " "))
	p := pod{server}
	passed, failed := 0, 0
	for _, one := range []struct {
		name  string
		check func() (string, error)
	}{
		{"exit code 0", p.success},
		{"exit code 17 behind stdout", p.exitBehindOutput},
		{"1 MiB of random bytes through cat", func() (string, error) { return "", p.echo(overSpdy, mib) }},
		{"64 MiB of random bytes through cat", func() (string, error) { return "", p.echo(overSpdy, 64*mib) }},
		{"each protocol", p.eachProtocol},
		{"v5 is not for SPDY", p.notV5},
		{"a pod that is not there is named", p.refused},
		{"massive stdout and stderr", p.massive},
		{"slow reader", p.slowReader},
		{"stdin never read", p.unreadStdin},
		{"stdin closed by the command", p.closedStdin},
		{"exit while stdin flows", p.exitWhileStdinFlows},
		{"a deadline ends it", p.deadline},
		{"terminal sizes", p.terminal},
		{"sessions at once", p.atOnce},
		{"falls back to SPDY", p.fallsBack},
		{"does not fall back for nothing", p.fallsBackForNothing},
		{"both are refused", p.bothRefused},
	} {
		if !wanted.MatchString(one.name) {
			continue
		}
		started := time.Now()
		note, err := one.check()
		word := "ok"
		if err != nil {
			word, note = "FAIL", err.Error()
			failed++
		} else {
			passed++
		}
		line := fmt.Sprintf("%s %s (%.1f s)", word, one.name, time.Since(started).Seconds())
		if note != "" {
			line += ": " + note
		}
		fmt.Println(line)
	}
	fmt.Printf("executor: %d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
