module example.invalid/nodetool

go 1.24.0
