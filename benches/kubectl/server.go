// Go's end of `kubectl port-forward`, for benches/kubectl/run: the handler of CRI servers, and
// for kubectls that tunnel the API server's in front of it, in one process. It forwards in the
// way of containerd, and prints its address.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

type forwarder struct{}

func (forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	target, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer target.Close()
	ends := make(chan error, 2)
	copy := func(to io.Writer, from io.Reader) {
		_, err := io.Copy(to, from)
		ends <- err
	}
	go copy(stream, target)
	go copy(target, stream)
	err = <-ends
	// containerd waits so long for the other direction.
	select {
	case <-ends:
	case <-time.After(time.Second):
	}
	return err
}

func forward(w http.ResponseWriter, req *http.Request) {
	portforward.ServePortForward(w, req, forwarder{}, "demo", "", nil, 4*time.Hour, 30*time.Second,
		portforward.SupportedProtocols)
}

// The answer to the request inside of a tunnel. The tunnel looks for it among the bytes of the
// connection, as if the handler were behind a proxy.
type inside struct {
	http.ResponseWriter
	status int
}

func (w *inside) WriteHeader(status int) {
	if w.status = status; status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *inside) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, _, err := w.ResponseWriter.(http.Hijacker).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 %d Switching Protocols\r\n", w.status); err != nil {
		return nil, nil, err
	}
	if err := w.Header().Write(conn); err != nil {
		return nil, nil, err
	}
	if _, err := io.WriteString(conn, "\r\n"); err != nil {
		return nil, nil, err
	}
	return conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn)), nil
}

// What kubectl asks for before it forwards.
var documents = map[string]string{
	"/api":  `{"kind":"APIVersions","versions":["v1"]}`,
	"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
	"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[` +
		`{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"]}]}`,
	path: `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"demo","namespace":"default"},` +
		`"spec":{"containers":[{"name":"demo"}]},"status":{"phase":"Running"}}`,
}

const path = "/api/v1/namespaces/default/pods/demo"

func main() {
	tunnel := proxy.NewTunnelingHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		forward(&inside{ResponseWriter: w}, req)
	}))
	for path, document := range documents {
		http.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, document)
		})
	}
	http.HandleFunc(path+"/portforward", func(w http.ResponseWriter, req *http.Request) {
		if wsstream.IsWebSocketRequestWithTunnelingProtocol(req) {
			tunnel.ServeHTTP(w, req)
		} else {
			forward(w, req)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	http.Serve(listener, nil)
}
