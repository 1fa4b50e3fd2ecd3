// The Go package itself, behind the paths of the other peers: `go-peer PORT`
// serves on 127.0.0.1. It has a goroutine for each channel, as kubelets do, and
// nothing is tuned, because the package has nothing to tune.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"

	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// The subprotocols and channels of the other peers: stdin, stdout, stderr,
// error, resize.
func protocols() map[string]wsstream.ChannelProtocolConfig {
	channels := []wsstream.ChannelType{
		wsstream.ReadChannel, wsstream.WriteChannel, wsstream.WriteChannel,
		wsstream.WriteChannel, wsstream.ReadChannel,
	}
	all := wsstream.NewDefaultChannelProtocols(channels)
	for _, name := range []string{"v4.channel.k8s.io", "v5.channel.k8s.io"} {
		all[name] = wsstream.ChannelProtocolConfig{Binary: true, Channels: channels}
	}
	return all
}

// The work of a path, on the channels 0 (in) and 1 (out).
type work func(req *http.Request, in io.Reader, out io.Writer) error

func echo(_ *http.Request, in io.Reader, out io.Writer) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{out}, in, make([]byte, 64*1024))
	return err
}

func source(req *http.Request, _ io.Reader, out io.Writer) error {
	left, err := strconv.ParseInt(req.URL.Query().Get("bytes"), 10, 64)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(req.URL.Query().Get("chunk"))
	if err != nil || size < 1 {
		return fmt.Errorf("chunk wants a number above 0")
	}
	chunk := make([]byte, size)
	for i := range chunk {
		chunk[i] = byte(i * 31)
	}
	for left > 0 {
		n, err := out.Write(chunk[:min(left, int64(size))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// Sends the number of received bytes once the client has ended its channel.
func sink(_ *http.Request, in io.Reader, out io.Writer) error {
	total := uint64(0)
	buffer := make([]byte, 64*1024)
	for {
		n, err := in.Read(buffer)
		total += uint64(n)
		if err != nil {
			break
		}
	}
	return binary.Write(out, binary.LittleEndian, total)
}

func idle(_ *http.Request, in io.Reader, _ io.Writer) error {
	_, err := io.Copy(io.Discard, in)
	return err
}

// Runs a command with its output on the channels, as kubelets do: an empty message
// first, a Status last.
func command(w http.ResponseWriter, req *http.Request) {
	conn := wsstream.NewConn(protocols())
	_, channels, err := conn.Open(w, req)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = channels[1].Write(nil)
	words := req.URL.Query()["command"]
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = channels[1], channels[2]
	status := `{"metadata":{},"status":"Success"}`
	if err := cmd.Run(); err != nil {
		status = `{"metadata":{},"status":"Failure"}`
	}
	_, _ = channels[3].Write([]byte(status))
}

func serve(run work) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		conn := wsstream.NewConn(protocols())
		_, channels, err := conn.Open(w, req)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = run(req, channels[0], channels[1])
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go-peer PORT")
		os.Exit(2)
	}
	for path, run := range map[string]work{"/echo": echo, "/source": source, "/sink": sink, "/idle": idle} {
		http.HandleFunc(path, serve(run))
	}
	http.HandleFunc("/exec", command)
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
	os.Exit(1)
}
