module quorate.io/tests/programs

go 1.25.0
