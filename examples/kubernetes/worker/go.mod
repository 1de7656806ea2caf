module quorate.io/examples/worker

go 1.25.0
