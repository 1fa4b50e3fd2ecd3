module side_by_side/go

go 1.26.0

require k8s.io/streaming v0.37.2

require (
	github.com/go-logr/logr v1.4.3 // indirect
	golang.org/x/net v0.57.0 // indirect
	k8s.io/klog/v2 v2.140.0 // indirect
)
