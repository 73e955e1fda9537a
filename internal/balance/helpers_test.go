package balance

import "time"

// start is when every test begins.
var start = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
