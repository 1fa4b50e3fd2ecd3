// The framer of spdystream, for the tests in differential.rs.
//
//	spdyframes write SEED COUNT   writes random frames of a client to stdout, and a line
//	                              for each to stderr
//	spdyframes read               reads frames of a server from stdin, and writes a line
//	                              for each to stdout
package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/spdystream/spdy"
)

func main() {
	switch os.Args[1] {
	case "write":
		seed, _ := strconv.ParseInt(os.Args[2], 10, 64)
		count, _ := strconv.Atoi(os.Args[3])
		write(rand.New(rand.NewSource(seed)), count)
	case "read":
		read()
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(random *rand.Rand, count int) {
	out := bufio.NewWriter(os.Stdout)
	framer, err := spdy.NewFramer(out, strings.NewReader(""))
	check(err)
	last := 0
	for range count {
		id := spdy.StreamId(2*random.Intn(1000) + 1)
		fields, text := headers(random)
		var frame spdy.Frame
		switch random.Intn(9) {
		case 0, 1:
			last += 2*random.Intn(3) + 2
			syn := &spdy.SynStreamFrame{StreamId: spdy.StreamId(last - 1), Headers: fields}
			syn.Priority = uint8(random.Intn(8))
			syn.Slot = uint8(random.Intn(256))
			syn.AssociatedToStreamId = spdy.StreamId(random.Intn(9))
			fin, unidirectional := random.Intn(2) == 0, random.Intn(2) == 0
			if fin {
				syn.CFHeader.Flags |= spdy.ControlFlagFin
			}
			if unidirectional {
				syn.CFHeader.Flags |= spdy.ControlFlagUnidirectional
			}
			fmt.Fprintf(os.Stderr, "syn %d %v %v %s\n", syn.StreamId, fin, unidirectional, text)
			frame = syn
		case 2:
			frame = &spdy.SynReplyFrame{StreamId: id, Headers: fields}
			fmt.Fprintf(os.Stderr, "block %s\n", text)
		case 3:
			frame = &spdy.HeadersFrame{StreamId: id, Headers: fields}
			fmt.Fprintf(os.Stderr, "block %s\n", text)
		case 4:
			frame = &spdy.RstStreamFrame{StreamId: id, Status: spdy.RstStreamStatus(1 + random.Intn(9))}
			fmt.Fprintf(os.Stderr, "rst %d\n", id)
		case 5:
			number := random.Uint32() | 1
			frame = &spdy.PingFrame{Id: number}
			fmt.Fprintf(os.Stderr, "ping %d\n", number)
		case 6:
			switch random.Intn(3) {
			case 0:
				frame = &spdy.GoAwayFrame{LastGoodStreamId: id, Status: spdy.GoAwayOK}
				fmt.Fprintln(os.Stderr, "goaway")
			case 1:
				frame = &spdy.WindowUpdateFrame{StreamId: id, DeltaWindowSize: 1}
			case 2:
				value := spdy.SettingsFlagIdValue{Id: spdy.SettingsMaxConcurrentStreams, Value: 9}
				frame = &spdy.SettingsFrame{FlagIdValues: []spdy.SettingsFlagIdValue{value}}
			}
		default:
			data := make([]byte, random.Intn(3)*random.Intn(20_000))
			random.Read(data)
			sent := &spdy.DataFrame{StreamId: id, Data: data}
			fin := random.Intn(3) == 0
			if fin {
				sent.Flags |= spdy.DataFlagFin
			}
			sum := 0
			for _, octet := range data {
				sum += int(octet)
			}
			fmt.Fprintf(os.Stderr, "data %d %v %d %d\n", id, fin, len(data), sum)
			frame = sent
		}
		check(framer.WriteFrame(frame))
	}
	check(out.Flush())
}

// Returns random headers, and their lines in order.
func headers(random *rand.Rand) (http.Header, string) {
	fields := http.Header{}
	lines := []string{}
	for range random.Intn(6) {
		name := []string{"Streamtype", "Port", "Requestid", "X-A", "Cookie"}[random.Intn(5)]
		if fields.Get(name) != "" {
			continue
		}
		value := strings.Repeat(string(rune('a'+random.Intn(26))), 1+random.Intn(200))
		fields.Set(name, value)
		lines = append(lines, strings.ToLower(name)+"="+value)
	}
	sort.Strings(lines)
	return fields, strings.Join(lines, ",")
}

func read() {
	framer, err := spdy.NewFramer(io.Discard, bufio.NewReader(os.Stdin))
	check(err)
	for {
		frame, err := framer.ReadFrame()
		if err == io.EOF {
			return
		}
		check(err)
		switch frame := frame.(type) {
		case *spdy.SynReplyFrame:
			fmt.Println("reply", frame.StreamId, len(frame.Headers))
		case *spdy.RstStreamFrame:
			fmt.Println("rst", frame.StreamId, frame.Status)
		case *spdy.PingFrame:
			fmt.Println("ping", frame.Id)
		case *spdy.GoAwayFrame:
			fmt.Println("goaway", frame.LastGoodStreamId, frame.Status)
		case *spdy.DataFrame:
			fmt.Println("data", frame.StreamId, frame.Flags&spdy.DataFlagFin != 0, len(frame.Data))
		default:
			fmt.Printf("other %T\n", frame)
		}
	}
}
