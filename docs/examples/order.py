from shop import app, order

run = app.sync.submit(order("tea", "scone", "jam"))
print(run.result(timeout=30))

# Output:
# 9
