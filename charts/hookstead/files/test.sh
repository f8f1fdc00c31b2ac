# The environment variables are the Job's: which gateway, which token, what is sent.
say() { printf '%s\n' "$*"; }

# Rights and event types that were made a moment ago take a moment to count.
attempt=0
until said=$(kubectl-hooks send "$TEST_TYPE" --data "$TEST_DATA" -o name 2>&1); do
  case $TEST_STATE:$said in
  Disabled:*disabled*)
    say "The environment is Disabled, and the gateway says so: $said"
    say "Tokens, rights and the gateway work. Set environment.state to Enabled to send an event."
    exit 0
    ;;
  esac
  attempt=$((attempt + 1))
  if [ "$attempt" -ge 30 ]; then
    say "The event was not accepted: $said"
    exit 1
  fi
  sleep 2
done
id=${said#event/}
say "Accepted and on stable storage: $id"

kubectl-hooks events "$id"

if [ -n "$TEST_ENDPOINT" ]; then
  attempt=0
  until kubectl-hooks deliveries --endpoint "$TEST_ENDPOINT" --status Delivered -o json | grep -q "\"$id\""; do
    attempt=$((attempt + 1))
    if [ "$attempt" -ge 60 ]; then
      say "No delivery of it to $TEST_ENDPOINT succeeded; its latest:"
      kubectl-hooks deliveries --endpoint "$TEST_ENDPOINT" --limit 5
      exit 1
    fi
    sleep 2
  done
  say "Delivered to $TEST_ENDPOINT."
fi
