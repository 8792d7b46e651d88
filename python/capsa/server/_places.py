"""Tenants and jobs: list, make, delete."""

from __future__ import annotations

from capsa.server._call import Answer, Call
from capsa.wire import NewJob, to_json


async def tenants(call: Call) -> Answer:
    """Every tenant."""
    call.query()
    async with call.service.slow():
        return Answer({"tenants": to_json(await call.store.tenants())})


async def purge_tenant(call: Call) -> Answer:
    """Removes a tenant: its events, and what its capsules have learned."""
    call.query()
    tenant = call.named["tenant"]
    async with call.service.slow():
        purged = await call.store.purge(tenant)
    call.service.forget(tenant)
    return Answer(to_json(purged))


async def jobs(call: Call) -> Answer:
    """Every job of a tenant."""
    call.query()
    tenant = call.named["tenant"]
    async with call.service.slow():
        return Answer({"tenant": tenant, "jobs": to_json(await call.store.jobs(tenant))})


async def create_job(call: Call) -> Answer:
    """Makes a job, and its tenant where there is none."""
    call.query()
    asked = await call.body(NewJob)
    async with call.service.slow():
        made = await call.store.create_job(
            call.named["tenant"], asked.id, description=asked.description, metadata=asked.metadata
        )
    return Answer(to_json(made), status=201)


async def job(call: Call) -> Answer:
    """One job."""
    call.query()
    return Answer(to_json(await call.store.job(call.named["tenant"], call.named["job"])))


async def delete_job(call: Call) -> Answer:
    """Deletes a job with its capsules."""
    call.query()
    tenant, name = call.named["tenant"], call.named["job"]
    async with call.service.slow():
        deleted = await call.store.delete_job(tenant, name)
    call.service.forget(tenant, name)
    return Answer(to_json(deleted))


async def capsules(call: Call) -> Answer:
    """The names of a job's capsules."""
    call.query()
    tenant, name = call.named["tenant"], call.named["job"]
    told = await call.store.job(tenant, name)
    return Answer({"tenant": tenant, "job": name, "capsules": told.capsules})
