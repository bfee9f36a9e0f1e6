// What pages gain where scripts run; all of them work without.
